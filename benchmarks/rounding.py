"""What an accelerator's rounding costs: the default run, trained and sampled with products of so many bits behind the leading one (tests/rounding), three seeds each.

    python benchmarks/rounding.py
"""
import json
import os
import sys
from pathlib import Path

from common import cold, mean_and_spread, save, scores

names = {0: "a processor, 23 bits", 10: "a recent GPU, 10 bits", 7: "a TPU, 7 bits"}
seeds = range(3)


def worker(seed):
    "Train, sample, score."
    import unetdiff
    run = unetdiff.train_digits(seed=seed, progress=False)
    return dict(test_loss=float(run.history["test_loss"][-1])) | scores(run, seed)


def main():
    "Means of the seeds, and the largest less the smallest."
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1]/"tests"/"rounding")
    rows = []
    for bits, name in names.items():
        os.environ["ROUND_BITS"] = str(bits)
        found = [cold(__file__, seed) for seed in seeds]
        rows.append(dict(name=name, bits=bits, seeds=len(seeds)) | mean_and_spread(found))
    save("rounding", rows)


if __name__ == "__main__": print(json.dumps(worker(int(sys.argv[3])))) if sys.argv[1:2] == ["--worker"] else main()
