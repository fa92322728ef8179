"""From nothing to good digits: how many seconds? A race that anybody can enter.

    python benchmarks/speedrun.py folder [entry.py ...]
    python benchmarks/speedrun.py folder --history

An entry is a file with a function `train(images, labels, steps, seed)`. It is given scikit-learn's 1,797 digits, float32 `[N, 8, 8, 1]` in [0, 1], and their labels, and
returns another, `draw(labels, seed)`, which draws a picture for each label, `[n, 8, 8, 1]` in [0, 1]. Its `steps` say how long it trains for each level that it wants to
reach; one that does not heed the labels says `labelled = False`. Without entries, those in `speedruns` run. Each is trained with three seeds, in a process of its own
each time, and the worst of the three counts. The folder keeps what each has reached, and the same command goes on with what is missing. With `--history` the commits of
this repository in `speedruns/history.json` run instead, each with the steps that were its default.

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


def worker(start, entry, steps, seed, out):
    "Train, draw, and say how long it took; the samples go to a file."
    from sklearn.datasets import load_digits
    data = load_digits()
    draw = runpy.run_path(entry)["train"](np.float32(data.images[..., None]/16), data.target, steps, seed)
    asked = np.sort(np.resize(np.arange(10), 1024))
    fake = np.asarray(draw(asked, seed))
    seconds = time.time() - start
    took = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    np.savez(out, fake=fake, asked=asked)
    return dict(seconds=seconds, core_seconds=sum(t.ru_utime + t.ru_stime for t in took))


def attempt(entry, steps, seed, package=here.parent):
    "One training in a new process, with nothing kept from before; its time and scores. `package` is the checkout whose unetdiff is used."
    from unetdiff.metrics import digits_reference
    with tempfile.TemporaryDirectory() as folder:
        empty = {name: folder for name in ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME")}
        path = os.pathsep.join([str(package), str(here), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-W", "ignore", __file__, "--worker", str(time.time()), entry, str(steps), str(seed), f"{folder}/samples.npz"]
        done = subprocess.run(command, env=os.environ | empty | dict(PYTHONPATH=path), stdout=subprocess.PIPE, text=True, check=True)
        drawn = np.load(f"{folder}/samples.npz")
        fake, asked = drawn["fake"], drawn["asked"]
    labelled = runpy.run_path(entry).get("labelled", True)
    said = json.loads(done.stdout.splitlines()[-1]) | digits_reference("classifier").score(fake, asked if labelled else None)
    print(Path(entry).stem, steps, seed, {k: round(v, 3) for k, v in said.items()}, flush=True)
    return said


def judge(name, level, found):
    "The worst of the attempts in each column, and whether they are good enough."
    bars = {name: bar for name, bar in levels[level].items() if name in found[0]}  # without labels there is no accuracy
    worst = {name: min(f[name] for f in found) for name in bars}
    slowest = {name: max(f[name] for f in found) for name in ("seconds", "core_seconds", "near_copies")}
    passes = slowest["near_copies"] <= most_copies and all(worst[name] >= bar for name, bar in bars.items())
    return dict(name=name, level=level, passes=passes) | slowest | worst


def main(folder, entries):
    "A row for each entry and each level that it wants to reach."
    rows = []
    for entry in entries:
        for level, steps in runpy.run_path(str(entry))["steps"].items():
            file = lambda seed: folder/f"{entry.stem}-{steps}-{seed}.json"
            found = [kept(file(seed), lambda: attempt(str(entry), steps, seed)) for seed in seeds]
            rows.append(judge(entry.stem, level, found) | dict(steps=steps))
    save("speedrun", rows)


def history(folder):
    "A row for each commit of this repository that made the default quicker or better, judged as gold."
    rows, entry = [], str(here/"speedruns"/"unetdiff.py")
    for commit, steps, what in json.loads((here/"speedruns"/"history.json").read_text()):
        with tempfile.TemporaryDirectory() as package:
            packed = subprocess.run(["git", "archive", commit, "unetdiff"], cwd=here.parent, stdout=subprocess.PIPE, check=True).stdout
            subprocess.run(["tar", "-x", "-C", package], input=packed, check=True)
            found = [kept(folder/f"{commit}-{seed}.json", lambda: attempt(entry, steps, seed, package)) for seed in seeds]
        rows.append(judge(commit, "gold", found) | dict(steps=steps, what=what))
    save("speedrun_history", rows)


if __name__ == "__main__":
    if sys.argv[1] == "--worker": print(json.dumps(worker(float(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])))
    else:
        folder, *entries = map(Path, sys.argv[1:])
        if sys.argv[2:] == ["--history"]: history(folder)
        else: main(folder, [p.resolve() for p in entries] or sorted((here/"speedruns").glob("*.py")))
