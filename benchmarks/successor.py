"""Flax's own rewrite of the tutorial, `docs_nnx/examples/digits_diffusion_model` in google/flax, and unetdiff: digit 2, the same minutes of training on a core each.

    python benchmarks/successor.py folder [minutes ...]

Without minutes 1, 5, 20 and 60, which take an hour and three quarters. The folder keeps the trained networks, and the same command goes on where it was stopped.
The recipe (network, loss, times, optimizer, steps, solver) is written here from its description, as of commit 18f8f311; at 20 minutes it takes nearly as many steps
as on its page. Minutes are those of the processor and begin with the process, so importing and compiling count, and another process on the same core does not;
drawing and scoring 1,024 pictures come on top. Both learn from the same 168 of 177 pictures, though Flax's page holds none back, and both plan their learning rate
over the steps that fit; how many do, two short runs tell. Flax's recipe trains one compiled step a call, as on its page, but with this project's convolutions: the
same numbers, sooner. How much sooner, `successor_step` tells.
"""
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import load_file, save_file

import nets
import unetdiff
from common import cold, cores, kept, memory, results, save
from unetdiff.data import from_range, split, to_range
from unetdiff.diffusion import Schedule, convert, predict, schedules
from unetdiff.engine.checkpoints import network_arrays, with_arrays
from unetdiff.engine.devices import map_batches
from unetdiff.metrics import digits_reference, quality
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

def network(rngs, features=64):
    "Its U-Net: the tutorial's, with a projection after each attention."
    net = UNet(1, 1, features, plain_attention=True, time_everywhere=False, rngs=rngs)
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


def train_flax(steps, folder):
    "Train as its page does."
    jax.config.update("jax_num_cpu_devices", 1)  # one device with all cores: what JAX does unless it is told otherwise
    net, x_0, rngs = init(network), to_range(split(twos())[0]), nnx.Rngs(0)
    tx = nnx.Optimizer(net, optimizer(steps), wrt=nnx.Param)
    for _ in range(steps): flow_step(net, tx, x_0, rngs).block_until_ready()
    save_file({name: np.asarray(a) for name, a in network_arrays(net).items()}, folder/"model.safetensors")


def read_flax(folder):
    "What it has trained."
    net = with_arrays(init(network), load_file(folder/"model.safetensors"), folder)
    velocity = lambda net: lambda s, y, _: net(y, jnp.full(len(y), 1000*s))
    denoiser = lambda net: lambda x, t: x + t.sigma*net(x, jnp.full(len(x), 1000*t.alpha))
    return Trained(net, schedules["flow"], denoiser, velocity, lambda: by_tsit5(net, velocity))


def train_flax_plain(steps, folder):
    "The same with XLA's convolutions."
    nets.use_plain_convolutions()
    train_flax(steps, folder)


def tsit5(velocity, model, y, start=0., end=1.):
    "Its solver: ten equal steps of Tsit5."
    return diffrax.diffeqsolve(diffrax.ODETerm(velocity(model)), diffrax.Tsit5(), start, end, (end - start)/10, y).ys[0]


def by_tsit5(model, velocity, seed=0):
    "Pictures in [0, 1], drawn with its solver."
    noise = np.random.default_rng(seed).standard_normal((drawn, 8, 8, 1), np.float32)
    return from_range(in_batches(partial(tsit5, velocity), model, noise))


# ours

usual = dict(optimizer="adamw", batch_size=32, augment=0., net=dict(patch_size=1, dropout=0.))  # in which it differs from the default recipe


def train_ours(steps, folder):
    "Train our recipe, with AdamW and single pixels; it holds the same pictures back by itself."
    unetdiff.train(twos(), steps=steps, progress=False, **usual).save(folder)


def read_ours(folder):
    "What it has trained."
    run = unetdiff.load(folder)
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

recipes = dict(unetdiff=(train_ours, read_ours), flax=(train_flax, read_flax), flax_plain=(train_flax_plain, read_flax))
names = dict(unetdiff="unetdiff", flax="Flax's recipe", flax_plain="Flax's recipe, XLA's convolutions")


def in_batches(program, model, x):
    "What `program(model, x)` makes of `x`, 64 at a time."
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, i, x: program(nnx.merge(graph, state), x))
    return np.concatenate([*map(np.asarray, map_batches(run, (state,), (x,), 64))])[:len(x)]


def scores(fake):
    "Quality among all pictures of digit 2; `accuracy` is the share that a classifier of all ten digits takes for a 2."
    return quality(np.asarray(fake), np.full(len(fake), 2), twos(), split(twos())[0], reference=digits_reference("classifier"))


def train(kind, steps, folder):
    "Train and keep the network; what it took."
    recipes[kind][0](int(steps), Path(folder))
    return dict(steps=int(steps), trained=time.process_time(), memory_mib=memory())


def draw(kind, folder):
    "Draw with the network in the folder; scores, and the first of the pictures."
    samples = np.asarray(recipes[kind][1](Path(folder)).draw())
    return scores(samples) | dict(samples=samples[:16].tolist())


def pace(kind, few, many, on=None):
    "Seconds a step, and seconds before them, from two short runs."
    def seconds(steps):
        with TemporaryDirectory() as folder: return cold(__file__, "train", kind, steps, folder, on=on)["trained"]
    short, long = seconds(few), seconds(many)
    step = (long - short)/(many - few)
    return step, long - many*step


def trained(kind, minutes, paces, folder, on):
    "What the worker says of its training and of its pictures; a training that is in the folder is not repeated."
    step, before = paces[kind]
    steps = max(2, int((60*minutes - before)/step))
    report = kept(folder/"report.json", lambda: cold(__file__, "train", kind, steps, folder, on=on))
    return report | cold(__file__, "draw", kind, folder, on=on)


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


def main(folder, *minutes):
    "Each budget in turn, both side by side."
    folder, few_and_many = Path(folder), dict(unetdiff=(200, 800), flax=(4, 24))
    paces = kept(folder/"paces.json", lambda: side_by_side(lambda kind, on: pace(kind, *few_and_many[kind], on)))
    for budget in [*map(int, minutes)] or [1, 5, 20, 60]:
        for kind, row in side_by_side(lambda kind, on: trained(kind, budget, paces, folder/f"{kind}_{budget}", on)).items():
            keep_strip(f"{kind}_{budget}", row.pop("samples"))
            merge("successor", [dict(name=names[kind], minutes=budget) | row], "name", "minutes")
    save("successor_step", [dict(name=names[kind], seconds_a_step=pace(kind, 2, 6)[0]) for kind in ("flax", "flax_plain")])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(dict(train=train, draw=draw)[sys.argv[3]](*sys.argv[4:])))
    else: main(*sys.argv[1:])
