"""The tutorial's network, 57 million parameters, trained to its end: with what the tutorial's optimizer saw of it, and with all of it.

    python benchmarks/tutorial_full.py folder

The folder keeps checkpoints of both trainings, and the same command goes on where it was stopped. On two cores the first takes 35 minutes, the second an hour
and 50 minutes, and drawing their pictures a while more; on a GPU or TPU minutes. Then 256 samples from pure noise and 256 reconstructions of noised test pictures,
made as the tutorial makes them, are scored beside those of the default model for the same digit and beside real ones. Writes `tutorial_full.json` and, for each
model, a sheet of its pictures at their own size: the samples, then the reconstructions.
"""
import json
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx

from common import machine
from unetdiff import digits, presets, train_digits
from unetdiff.data import split
from unetdiff.metrics import digits_reference, quality
from unetdiff.training import clipped_adamw, unet_for
from unetdiff.unet import init
from unetdiff.viz import image_grid

here = Path(__file__).parent
published = {  # step: running average of the loss, as the tutorial prints it
    0: 1.2441, 100: 1.1178, 200: .8737, 300: .7176, 400: .6327, 500: .5682, 600: .5024, 700: .4417, 800: .3805, 900: .3254, 1000: .2803, 1200: .2339, 1500: .2085,
    2000: .1919, 2500: .1867, 3000: .1844, 3500: .1823, 4000: .1804, 4500: .1811, 5000: .1827}


def visible(name):
    "Is the parameter of this name outside of residual and attention blocks, where the tutorial's optimizer found it?"
    return "block" not in name and "attention" not in name


def frozen_blocks():
    "The tutorial's optimizer, which leaves blocks as they are; without the gradient penalty, whose size is 2e-8 and which would double the time."
    kinds = {True: clipped_adamw(presets["tutorial"].steps, flat=False), False: optax.set_to_zero()}
    kind_of_each = partial(jax.tree_util.tree_map_with_path, lambda path, _: visible(jax.tree_util.keystr(path)))
    return dict(optimizer=optax.partition(kinds, kind_of_each), gradient_penalty=0.)


runs = { # name: arguments of `train_digits`
    "frozen": lambda: dict(preset="tutorial") | frozen_blocks(),
    "full": lambda: dict(preset="tutorial"),
    "default": lambda: {}}


def seconds_a_step(settings):
    "Of ten steps, after some that compile."
    times = []
    train_digits(1, **settings | dict(steps=30, log_every=10), progress=False, callback=lambda *_: times.append(time.perf_counter()))
    return (times[-1] - times[-2])/10


def test_pictures(run):
    "256 of them, drawn with replacement, as the tutorial draws them."
    return run.held_out[0][np.random.default_rng(0).integers(0, len(run.held_out[0]), 256)]


def pictures(run):
    "256 samples from pure noise, and 256 reconstructions: test pictures noised with the same noise, and denoised."
    return np.asarray(run.sample(256)), np.asarray(run.reconstruct(test_pictures(run)))


def likeness(a, b):
    "The correlation of two pictures, pair by pair, in the mean."
    return float(np.mean([np.corrcoef(*map(np.ravel, pair))[0, 1] for pair in zip(np.clip(a, 0, 1), np.clip(b, 0, 1))]))


def likenesses(run, samples, reconstructions):
    "How much a reconstruction looks like its test picture, like another one, and like the sample that began with the same noise."
    own = test_pictures(run)
    return dict(own=likeness(reconstructions, own), other=likeness(reconstructions, np.roll(own, 1, 0)), sample=likeness(reconstructions, samples))


def drawn(name, folder, run):
    "The pictures of a run, which are kept in the folder."
    file = folder/f"{name}.npz"
    if not file.exists(): np.savez(file, *pictures(run))
    return tuple(np.load(file).values())


def scores(images, train, itself=False):
    "Their quality beside all real ones; `accuracy` is the share of them that a classifier of all ten digits reads as ones."
    return quality(images, np.ones(len(images), int), digits(1)[0], train, itself, digits_reference("classifier"))


def curves(history):
    "Of every hundredth step: the running average of the loss, as the tutorial prints it, and the mean of the last 50 losses."
    step, loss = np.arange(0, len(history["loss"]), 100), history["loss"]
    recent = [float(loss[max(0, i - 49):i + 1].mean()) for i in step]
    tested = dict(test_step=history["test_step"].tolist(), test_loss=history["test_loss"].tolist())
    return dict(step=step.tolist(), loss_ema=history["loss_ema"][step].tolist(), loss_of_50=recent) | tested


def unmoved(run):
    "Names of the parameter arrays that training has left where they were."
    start = nnx.state(init(unet_for(run.recipe, 1, None), run.info["seed"]), nnx.Param)
    pairs = zip(jax.tree_util.tree_flatten_with_path(start)[0], jax.tree.leaves(nnx.state(run.model, nnx.Param)))
    return [jax.tree_util.keystr(path) for (path, a), b in pairs if np.array_equal(a, b)]


def result(name, folder):
    "Train, or go on, or read what is there; then draw, score and tell."
    settings = runs[name]()
    run = train_digits(1, **settings, out=folder/name, resume=True)
    samples, reconstructions = drawn(name, folder, run)
    image_grid(np.concatenate([samples, reconstructions]), 32, zoom=1, gap=0).save(here/f"tutorial_full_{name}.png", optimize=True)
    train = split(digits(1)[0])[0]
    quality = dict(samples=scores(samples, train), reconstructions=scores(reconstructions, train))
    return curves(run.history) | quality | dict(likeness=likenesses(run, samples, reconstructions), unmoved=unmoved(run), seconds_a_step=seconds_a_step(settings))


def main(folder):
    "All three, and what real ones score."
    file = here/"tutorial_full.json"
    results = {name: result(name, Path(folder)) for name in runs}
    train, test = split(digits(1)[0])[:2]
    results |= dict(published=published, real=scores(train, train, itself=True), held_out=scores(test, train), machine=machine())
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__": main(sys.argv[1])
