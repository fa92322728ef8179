"""Train the default model from a cold start with three seeds, and hold time and quality of each against what the project promises: python tests/long/quality.py"""
import json
import subprocess
import sys

once = """
import time; start = time.time()
from unetdiff import train_digits
run = train_digits(seed={seed}, progress=False)
from unetdiff.data import split
from unetdiff.metrics import digits_reference, proportional_labels
asked = proportional_labels(1024)
run.sample(1024, asked).block_until_ready()
seconds = time.time() - start
import json, numpy as np
from unetdiff.metrics import frechet
reference = digits_reference("classifier")
train = split(reference.images, reference.labels, run.recipe.test_size)[0]
scores, plain = [reference.score(run.sample(1024, asked, **how), asked, train) for how in (dict(), dict(guidance=1.))]
drawn = [np.random.default_rng(i).permutation(1797)[:1024] for i in range(20)]
real = np.mean([frechet(reference.own, reference.own[i]) for i in drawn])
print(json.dumps({{"seconds": seconds, "evaluations": run.evaluations()}} | scores | {{"frechet / real": scores["frechet"]/real}}
                 | {{k + ", no guidance": v for k, v in plain.items()}}))
"""
# on two cores of a server's processor that does nothing else; "frechet / real": against the mean of 20 random sets of as many real digits
promised = {"seconds": (0, 40), "evaluations": (0, 12), "accuracy": (.985, 1), "precision": (.955, 1), "coverage": (.89, 1), "distance": (.95, 1.1), "near_copies": (0, .015),
            "frechet / real": (0, 2.9), "accuracy, no guidance": (.95, 1), "precision, no guidance": (.80, 1), "coverage, no guidance": (.70, 1), "near_copies, no guidance": (0, .02)}


def main():
    "Each seed in a process of its own, so that each pays for imports and compiling."
    wrong = []
    for seed in range(3):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", once.format(seed=seed)], stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(done.stdout)
        print(f"seed {seed}:", {k: round(v, 3) for k, v in result.items()}, flush=True)
        wrong += [f"seed {seed}: {k} is {result[k]:.3f}, promised {low} to {high}" for k, (low, high) in promised.items() if not low <= result[k] <= high]
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__": main()
