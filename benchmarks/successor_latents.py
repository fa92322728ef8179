"""The noise to which a flow leads pictures back: is it Gaussian? Flax's rewrite of the tutorial (see `successor.py`) and unetdiff, digit 2.

    python benchmarks/successor_latents.py folder [minutes of Flax's] [minutes of ours]

Takes the networks that `successor.py` has left in the folder: of Flax's recipe after 20 minutes, nearly the 2,000 steps of its page, and of ours after 1. Follows the flow from pictures to noise twice: with Flax's solver, ten steps of Tsit5 from the picture itself, and with many small steps of
Heun's method, which begin at a little noise (sigma/alpha = 0.03) as the likelihood of this project does.
"""
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
from scipy.stats import kstest, kurtosis

from common import save
from successor import in_batches, names, recipes, tsit5, twos
from unetdiff.data import split, to_range
from unetdiff.likelihood import ode_step, rising_points
from unetdiff.sampling import NoiseLevel, heun, sample_loop


def exact_flow(trained, model, x):
    "The noise that a picture comes from, by many small steps from sigma/alpha = 0.03 to 80."
    at, keys = rising_points(trained.schedule), jax.random.split(jax.random.key(0), len(x))
    here, there = NoiseLevel(*(v[:-1] for v in at)), NoiseLevel(*(v[1:] for v in at))
    step = lambda y, levels: (ode_step(trained.denoiser(model), y, keys, 0, *levels)[0], None)
    return jax.lax.scan(step, x, (here, there))[0]*at.alpha[-1]/at.sigma[-1]


def exact_pictures(trained, model, z):
    "The pictures that noise leads to, by the same steps the other way; a noise of 0.03 is left in them."
    keys, at = jax.random.split(jax.random.key(0), len(z)), NoiseLevel(*(v[::-1] for v in rising_points(trained.schedule)))
    return sample_loop(trained.denoiser(model), z*at.sigma[0], at, keys, heun)/at.alpha[-1]


def figures(z, x):
    "How far `z` is from standard normal noise, and how much it looks like the pictures it belongs to, and like others."
    z, x = (np.reshape(v, (len(v), -1)).astype(float) for v in (z, x))
    n, D = z.shape
    square, off = (z**2).mean(1), np.cov(z.T) - np.eye(D)
    likeness = lambda x: np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(z, x)])
    found = dict(square=square.mean(), square_spread=square.std(),              # 1 and sqrt(2/D) for real noise
                 kurtosis=kurtosis(z.ravel()), ks=kstest(z.ravel(), "norm")[0],  # of all entries together: both 0
                 mean=n*(z.mean(0)**2).mean(),                                  # 1
                 covariance=np.sqrt((off**2).sum()/D),                          # sqrt(D/n)
                 like_own=likeness(x), like_other=likeness(np.roll(x, 1, 0)))   # 0
    return dict(n=n) | {name: float(v) for name, v in found.items()}


def latents(trained, samples):
    "Figures of the noise that pictures are led back to. The exact flow also gets pictures with as much noise as it begins with, and its own."
    train, held_out = (np.asarray(to_range(x)) for x in split(twos())[:2])
    normal = partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    clean = {"training": train, "held out": held_out, "own samples": np.asarray(to_range(samples[:len(train)]))}
    noisy = {f"{name}, with noise": x + np.float32(.03)*normal(x.shape) for name, x in clean.items()}
    noisy["own samples, by the exact flow"] = in_batches(partial(exact_pictures, trained), trained.model, normal(train.shape))
    back = {"Tsit5": (partial(tsit5, trained.velocity, start=1., end=0.), clean), "exact flow": (partial(exact_flow, trained), clean | noisy)}
    yield dict(pictures="training", solver="real noise") | figures(normal(train.shape), train)
    for solver, (program, pictures) in back.items():
        z = in_batches(program, trained.model, np.concatenate([*pictures.values()]))
        ends = np.cumsum([*map(len, pictures.values())])[:-1]
        for (name, x), part in zip(pictures.items(), np.split(z, ends)): yield dict(pictures=name, solver=solver) | figures(part, x)


def main(folder, flax=20, unetdiff=1):
    "Both, one after the other."
    rows = []
    for kind, minutes in dict(flax=flax, unetdiff=unetdiff).items():
        trained = recipes[kind][1](Path(folder)/f"{kind}_{minutes}")
        rows += [dict(name=names[kind]) | row for row in latents(trained, np.asarray(trained.draw()))]
    save("successor_latents", rows)


if __name__ == "__main__": main(*sys.argv[1:])
