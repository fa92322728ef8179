"""Everything public, once, under switches of JAX: `python tests/everything.py jax_enable_x64=True`; with `spawned` in a thread of a spawned process.

Networks are tiny; U-Nets are traced, not compiled.
"""
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

os.environ |= dict(TQDM_DISABLE="1", MPLBACKEND="agg")

import jax
import numpy as np
from flax import nnx

is_spawned = "spawned" in sys.argv
settings = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
for name, value in settings.items(): jax.config.update(name, True if value == "True" else value)

from networks import Dense

import unetdiff
from unetdiff import load, train
from unetdiff.engine.devices import Programs
from unetdiff.sampling import churned, slerp

rng = np.random.default_rng(0)
x, y = (rng.integers(0, 17, (40, 8, 8, 1))/16).astype(np.float32), np.arange(40) % 3
mask = np.arange(8)[:, None] < np.full((8, 8), 4)
small = dict(steps=4, log_every=2, batch_size=8, progress=False)
net = dict(features=4, channel_mults=(1,), attention_levels=(0,), time_emb_dim=4, heads=2)
halves = "float32" if jax.config.jax_numpy_dtype_promotion == "strict" else "bfloat16" # Flax's LayerNorm itself mixes bfloat16 with float32
unets = [dict(net=net | dict(plain_attention=True, time_everywhere=False), grad_accum_steps=2, gradient_penalty=.02, averaging=(17., 7.), optimizer="clipped_adamw",
              prediction="eps", schedule="cosine", weighting="snr_ratio", time_sampler="logit_normal"),
         dict(net=net, dtype=halves, stream=True, fsdp=True, prediction="x0", schedule="flow", weighting="edm", time_sampler="early_first")]


def check(ok, message):
    "As `assert`, under `python -O` too."
    if not ok: raise AssertionError(message)


class Traced(Exception): "A program was traced; it is not compiled."


@contextmanager
def traced():
    "The next program is traced instead of called."
    call = Programs.__call__
    def trace(self, *args, **static):
        self.trace(*args, **static)
        raise Traced
    Programs.__call__ = trace
    try: yield
    except Traced: return
    finally: Programs.__call__ = call
    raise AssertionError("no program was called")


def dense(classes=3, condition=None):
    "A network; Flax's random numbers travel unasked."
    with jax.transfer_guard("allow"): return Dense(64, 16, nnx.Rngs(0), classes=classes, condition=condition)


def trainings(folder):
    "A run, after others that were stopped and resumed."
    for settings in unets:
        with traced(): train(x, y, **small | settings)
    settings = small | dict(averaging=(17., 7.), weighting="min_snr", gradient_penalty=.02, grad_accum_steps=2)
    first = train(x, y, model=dense(), out=folder/"out", checkpoints=dict(every=2), callback=lambda step, metrics, run: step == 2, **settings)
    run = train(x, y, model=dense(), out=folder/"out", resume=True, **settings)
    check([len(r.history["loss"]) for r in (first, run)] == [2, 4], "the training should have been stopped and resumed")
    train(x, y, model=run, callback=unetdiff.monitor(folder/"pictures", n=8), **small)
    run.save(folder/"saved")
    return load(folder/"saved", model=dense())


def conditions():
    "Networks that are told a vector, or labels and a smaller picture."
    for c, labels, stream in ((x.mean((1, 2)), None, False), (x[:, ::2, ::2], y, True)):
        with traced(): train(x, labels, condition=c, net=net, **small)
        run = train(x, labels, condition=c, model=dense(labels is not None and 3 or None, c.shape[1:]), stream=stream, **small)
        run.sample(2, condition=c[0], guidance=2., interval=(0, np.inf))
        run.plot_samples(), run.plot_sheet(2), run.bits_per_dim(stops=4)


def pictures(run):
    "Samples of all kinds."
    for name in ("ddpm_large", "heun"): run.sample(3, sampler=name, steps=3)
    for name in ("clip", "dynamic"): run.sample(3, [0, 1, 2], thresholding=name, guidance=2., interval=(0, np.inf))
    run.sample(2, 1, z=slerp(*rng.standard_normal((2, 8, 8, 1)), [0, 1]), spacing=churned("karras"))
    run.reconstruct(x[:3], y[:3], known=mask, start=1.)
    run.averaged(.1).sample(2)
    with traced(): load().sample(2, 1)


def figures(run):
    "All that is drawn."
    run.plot_loss()
    run.plot_sheet(2)
    run.plot_samples()
    run.plot_forward_and_reverse()
    run.scrub(samplers=["dpmpp_2m"], steps=10)
    run.animate(3, steps=10)
    run.explore(2)
    unetdiff.show_images(run.sample(3))


def everything():
    "All of it, in a folder of its own."
    unetdiff.keep_compiled()
    unetdiff.digits()
    with tempfile.TemporaryDirectory() as folder: run = trainings(Path(folder))
    conditions()
    pictures(run)
    figures(run)
    run.evaluations(sampler="heun")
    scores, bits = run.evaluate(12, images=x, labels=y, batch_size=8), run.bits_per_dim(x[:5], y[:5], stops=4)
    check(np.isfinite([*scores.values(), *bits.values()]).all(), "scores should be numbers")
    check({str(p.dtype) for p in jax.tree.leaves(nnx.state(run.model))} == {"float32"}, "weights should be float32")


def in_thread():
    "All of it, in a thread that is not the main one."
    with ThreadPoolExecutor(1) as pool: pool.submit(everything).result()


if __name__ == "__main__":
    if not is_spawned: everything()
    else:
        process = get_context("spawn").Process(target=in_thread)
        process.start()
        process.join()
        sys.exit(process.exitcode)
