"""What each choice of Flax's rewrite of the tutorial (see `successor.py`) is worth in our recipe, with AdamW and single pixels: digit 2, 4,000 steps, one entry exchanged at a time.

    python benchmarks/successor_choices.py
"""
from functools import partial

import unetdiff
from common import mean_and_spread, save
from successor import by_tsit5, drawn, network, optimizer, scores, straight, twos, usual
from unetdiff.diffusion import lognormal_times
from unetdiff.unet import init

steps = 4000
entries = {  # of our recipe, that its choices replace
    "none": {},
    "straight lines, velocity": dict(schedule="flow", prediction="flow"),
    "logit-normal times": dict(time_sampler=partial(lognormal_times, mean=0., std=1.)),  # on straight lines log(sigma/alpha) is then standard normal
    "all pictures in each step": dict(batch_size=None),
    "its optimizer": dict(optimizer=optimizer(steps)),
    "no average": dict(averaging=None),
    "its network, a quarter as wide": dict(model=init(partial(network, features=16)))}
solvers = {  # name: how to draw, network evaluations a picture
    "ours": (lambda run, seed: run.sample(drawn, seed=seed), lambda run: run.evaluations()),
    "Tsit5": (lambda run, seed: by_tsit5(run.model, partial(straight, run.recipe.process), seed), lambda run: 1 + 10*6)}


def rows(name, changed):
    "Train with one choice, three seeds, and draw with either solver: means, and the largest less the smallest."
    runs = [unetdiff.train(twos(), steps=steps, seed=seed, progress=False, **usual | changed) for seed in range(3)]
    for solver, (draw, evaluations) in solvers.items():
        found = [scores(draw(run, seed)) for seed, run in enumerate(runs)]
        yield dict(name=name, solver=solver, evaluations=evaluations(runs[0]), seeds=len(runs)) | mean_and_spread(found)


def main():
    "All choices, kept as they come."
    table = []
    for name, changed in entries.items():
        table += rows(name, changed)
        save("successor_choices", table)


if __name__ == "__main__": main()
