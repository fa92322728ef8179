"""From nothing to good digits: how many seconds? A race that anybody can enter.

    python benchmarks/speedrun.py folder [entry.py ...]

An entry is a file with a function `train(images, labels, steps, seed)`. It is given scikit-learn's 1,797 digits, float32 `[N, 8, 8, 1]` in [0, 1], and their labels, and
returns another, `draw(labels, seed)`, which draws a picture for each label, `[n, 8, 8, 1]` in [0, 1]. Its `steps` say how long it trains for each level that it wants to
reach; one that does not heed the labels says `labelled = False`. Without entries, those in `speedruns` run. Each is trained with three seeds, in a process of its own
each time, and the worst of the three counts. The folder keeps what each has reached, and the same command goes on with what is missing.

The rules: the clock starts before Python does and stops when 1,024 samples are drawn, so importing and compiling count. An entry learns from the given pictures alone:
no weights, features or compiled programs from before (the folders in which JAX and PyTorch keep programs are empty). Near-copies of the pictures count against it.
"""
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import kept, save

here = Path(__file__).resolve().parent
seeds = 101, 102, 103
levels = {"bronze": dict(precision=.85, coverage=.7, accuracy=.95), "silver": dict(precision=.94, coverage=.85, accuracy=.975), "gold": dict(precision=.955, coverage=.89, accuracy=.985)}
most_copies = .012  # at every level


def worker(start, entry, level, seed, out):
    "Train, draw, and say how long it took; the samples go to a file."
    from sklearn.datasets import load_digits
    data = load_digits()
    entry = runpy.run_path(entry)
    draw = entry["train"](np.float32(data.images[..., None]/16), data.target, entry["steps"][level], seed)
    asked = np.sort(np.resize(np.arange(10), 1024))
    fake = np.asarray(draw(asked, seed))
    seconds = time.time() - start
    took = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    np.savez(out, fake=fake, asked=asked)
    return dict(seconds=seconds, core_seconds=sum(t.ru_utime + t.ru_stime for t in took))


def attempt(entry, level, seed):
    "One training in a new process, with nothing kept from before; its time and scores."
    from unetdiff.metrics import digits_reference
    with tempfile.TemporaryDirectory() as folder:
        empty = {name: folder for name in ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME")}
        path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-W", "ignore", __file__, "--worker", str(time.time()), entry, level, str(seed), f"{folder}/samples.npz"]
        done = subprocess.run(command, env=os.environ | empty | dict(PYTHONPATH=path), stdout=subprocess.PIPE, text=True, check=True)
        drawn = np.load(f"{folder}/samples.npz")
        fake, asked = drawn["fake"], drawn["asked"]
    labelled = runpy.run_path(entry).get("labelled", True)
    said = json.loads(done.stdout.splitlines()[-1]) | digits_reference("classifier").score(fake, asked if labelled else None)
    print(Path(entry).stem, level, seed, {k: round(v, 3) for k, v in said.items()}, flush=True)
    return said


def judge(entry, level, found):
    "The worst of the attempts in each column, and whether they are good enough."
    bars = {name: bar for name, bar in levels[level].items() if name in found[0]}  # without labels there is no accuracy
    worst = {name: min(f[name] for f in found) for name in bars}
    slowest = {name: max(f[name] for f in found) for name in ("seconds", "core_seconds", "near_copies")}
    passes = slowest["near_copies"] <= most_copies and all(worst[name] >= bar for name, bar in bars.items())
    return dict(name=entry.stem, level=level, passes=passes) | slowest | worst


def main(folder, entries):
    "A row for each entry and each level that it wants to reach."
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for entry in entries:
        for level in runpy.run_path(str(entry))["steps"]:
            file = lambda seed: folder/f"{entry.stem}-{level}-{seed}.json"
            rows.append(judge(entry, level, [kept(file(seed), lambda: attempt(str(entry), level, seed)) for seed in seeds]))
    save("speedrun", rows)


if __name__ == "__main__":
    if sys.argv[1] == "--worker": print(json.dumps(worker(float(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5]), sys.argv[6])))
    else: main(Path(sys.argv[1]), [Path(p).resolve() for p in sys.argv[2:]] or sorted((here/"speedruns").glob("*.py")))
