"""Flax's own rewrite of the tutorial, `docs_nnx/examples/digits_diffusion_model` in google/flax, and unetdiff: digit 2, the same minutes of training on a core each.

    python benchmarks/successor.py [minutes ...]

Without minutes 1, 5 and 20, which take three quarters of an hour. The recipe (network, loss, times, optimizer, steps, solver) is written here from its
description, as of commit 18f8f311. Minutes begin with the process, so compiling counts; drawing and scoring 1,024 pictures come on top. Both learn from the same
168 of 177 pictures, though Flax's page holds none back, and both plan their learning rate over the steps that fit; how many do, two short runs tell. Flax's recipe
trains one compiled step a call, as on its page, but with this project's convolutions: the same numbers, sooner. How much sooner, `successor_step` tells.
"""
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Callable, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import nets
import unetdiff
from common import cold, cores, results, save
from quality import memory
from unetdiff.data import from_range, split, to_range
from unetdiff.diffusion import Schedule, convert, predict, schedules
from unetdiff.engine.devices import map_batches
from unetdiff.metrics import quality
from unetdiff.sampling import guided_denoiser
from unetdiff.unet import UNet, init
from unetdiff.viz import image_grid

drawn = 1024


class Trained(NamedTuple):
    "A network and how to use it."
    model: nnx.Module
    schedule: Schedule
    denoiser: Callable  # model -> ((x, t: NoiseLevel) -> estimate of the picture)
    velocity: Callable  # model -> ((s, y, _) -> dy/ds), where y = s x_0 + (1 - s) eps: noise at s = 0, picture at s = 1
    draw: Callable      # () -> pictures in [0, 1]


def twos(): return unetdiff.digits(2)[0]


# Flax's recipe

def network(rngs):
    "Its U-Net: the tutorial's, with a projection after each attention."
    net = UNet(1, 1, 64, plain_attention=True, time_everywhere=False, rngs=rngs)
    for attention in (net.down2.attention, net.down3.attention, net.bridge1.attention):
        width = attention.q.out_features
        attention.out = nnx.data(nnx.Linear(width, width, rngs=rngs))
    return net


def optimizer(steps):
    "AdamW: half of the steps up to 5e-4, the other half down to a hundredth of that."
    rate = optax.warmup_cosine_decay_schedule(0., 5e-4, steps//2, steps, 5e-6)
    return optax.chain(optax.clip_by_global_norm(.5), optax.adamw(rate, weight_decay=2e-5))


def flow_loss(net, x_0, rngs):
    "The error of the velocity on straight lines from noise to pictures, at logit-normal times."
    s, eps = jax.nn.sigmoid(rngs.normal(len(x_0))), rngs.normal(x_0.shape)
    share = s[:, None, None, None]
    return jnp.mean((net(share*x_0 + (1 - share)*eps, 1000*s) - (x_0 - eps))**2)


@nnx.jit
def flow_step(net, tx, x_0, rngs):
    "One step, all pictures at once."
    loss, gradient = nnx.value_and_grad(flow_loss)(net, x_0, rngs)
    tx.update(net, gradient)
    return loss


def flax(steps):
    "Train as its page does."
    jax.config.update("jax_num_cpu_devices", 1)  # one device with all cores: what JAX does unless it is told otherwise
    net, x_0, rngs = init(network), to_range(split(twos())[0]), nnx.Rngs(0)
    tx = nnx.Optimizer(net, optimizer(steps), wrt=nnx.Param)
    for _ in range(steps): flow_step(net, tx, x_0, rngs).block_until_ready()
    velocity = lambda net: lambda s, y, _: net(y, jnp.full(len(y), 1000*s))
    denoiser = lambda net: lambda x, t: x + t.sigma*net(x, jnp.full(len(x), 1000*t.alpha))
    return Trained(net, schedules["flow"], denoiser, velocity, lambda: by_tsit5(net, velocity))


def flax_plain(steps):
    "The same with XLA's convolutions."
    nets.use_plain_convolutions()
    return flax(steps)


def tsit5(velocity, model, y, start=0., end=1.):
    "Its solver: ten equal steps of Tsit5."
    return diffrax.diffeqsolve(diffrax.ODETerm(velocity(model)), diffrax.Tsit5(), start, end, (end - start)/10, y).ys[0]


def by_tsit5(model, velocity, seed=0):
    "Pictures in [0, 1], drawn with its solver."
    noise = np.random.default_rng(seed).standard_normal((drawn, 8, 8, 1), np.float32)
    return from_range(in_batches(partial(tsit5, velocity), model, noise))


# ours

def ours(steps):
    "Train the default recipe; it holds the same pictures back by itself."
    run = unetdiff.train(twos(), steps=steps, progress=False)
    process = run.recipe.process
    denoiser = lambda net: guided_denoiser(process, net, None, None)
    return Trained(run.model, process.schedule, denoiser, partial(straight, process), lambda: run.sample(drawn))


def straight(process, model):
    "The velocity on a straight line from noise to picture, as told by the network of any process."
    def velocity(s, y, _):
        t = jnp.full(len(y), process.schedule.time(2*jnp.log(s/(1 - s))))
        alpha, sigma, row = process.at(t, y)
        x_t = y*jnp.hypot(alpha, sigma)/jnp.hypot(s, 1 - s)
        return convert(predict(process, model, x_t, t), x_t, alpha, sigma, row, (1., -1.))
    return velocity


# both

recipes = dict(unetdiff=ours, flax=flax, flax_plain=flax_plain)
names = dict(unetdiff="unetdiff", flax="Flax's recipe", flax_plain="Flax's recipe, XLA's convolutions")


def in_batches(program, model, x):
    "What `program(model, x)` makes of `x`, 64 at a time."
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, i, x: program(nnx.merge(graph, state), x))
    return np.concatenate([*map(np.asarray, map_batches(run, (state,), (x,), 64))])[:len(x)]


def scores(fake):
    "Quality among all pictures of digit 2; `accuracy` is the share that a classifier of all ten digits takes for a 2."
    return quality(np.asarray(fake), np.full(len(fake), 2), twos(), split(twos())[0])


def worker(start, kind, steps, only_train):
    "Train, then draw and score."
    trained = recipes[kind](steps)
    took = dict(steps=steps, trained=time.time() - start, memory_mib=memory())
    if only_train: return took
    samples = np.asarray(trained.draw())
    return took | scores(samples) | dict(samples=samples[:16].tolist())


def pace(kind, few, many, on=None):
    "Seconds a step, and seconds before them, from two short runs."
    short, long = (cold(__file__, kind, steps, "only_train", on=on)["trained"] for steps in (few, many))
    step = (long - short)/(many - few)
    return step, long - many*step


def side_by_side(job):
    "Do a job for both at once, each on a core of its own."
    pins = zip(("unetdiff", "flax"), ([core] for core in cores()))
    with ThreadPoolExecutor() as pool: return dict(pool.map(lambda pin: (pin[0], job(*pin)), pins))


def merge(key, rows, *same):
    "Save rows in the place of those of earlier runs that have the same entries `same`."
    entries = lambda row: [row[name] for name in same]
    new, old = [*map(entries, rows)], json.loads(results.read_text()).get(key, dict(rows=[]))["rows"]
    save(key, [row for row in old if entries(row) not in new] + rows)


def keep_strip(name, samples):
    "Keep pictures side by side, each pixel four times as large."
    folder = results.with_name("successor")
    folder.mkdir(exist_ok=True)
    image_grid(np.float32(samples), len(samples), zoom=4, gap=0).save(folder/f"{name}.png", optimize=True)


def main(budgets):
    "Each budget in turn, both side by side."
    paces = side_by_side(lambda kind, on: pace(kind, *dict(unetdiff=(200, 800), flax=(4, 24))[kind], on))
    for minutes in budgets:
        fit = {kind: max(2, int((60*minutes - before)/step)) for kind, (step, before) in paces.items()}
        for kind, row in side_by_side(lambda kind, on: cold(__file__, kind, fit[kind], on=on)).items():
            keep_strip(f"{kind}_{minutes}", row.pop("samples"))
            merge("successor", [dict(name=names[kind], minutes=minutes) | row], "name", "minutes")
    save("successor_step", [dict(name=names[kind], seconds_a_step=pace(kind, 2, 6)[0]) for kind in ("flax", "flax_plain")])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        start, kind, steps, *only_train = sys.argv[2:]
        print(json.dumps(worker(float(start), kind, int(steps), bool(only_train))))
    else: main([*map(int, sys.argv[1:])] or [1, 5, 20])
