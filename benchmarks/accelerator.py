"""The tutorial preset to its end on a GPU or TPU, with all of the network learning and with what the tutorial's optimizer saw, and the default preset.

    python benchmarks/accelerator.py
"""
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax

from common import save
from nets import direct_operations
from unetdiff import presets, train_digits
from unetdiff.training import clipped_adamw

at = (0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1200, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000)
peaks = {"H100": 67e12, "A100": 19.5e12, "L4": 30.3e12, "T4": 8.1e12}  # float32 operations a second, from NVIDIA's data sheets


def visible_only(optimizer):
    "The optimizer, seeing only what is outside of residual and attention blocks."
    def mask(params): return jax.tree_util.tree_map_with_path(lambda path, _: not any(part in jax.tree_util.keystr(path) for part in ("block", "attention")), params)
    choose = optax.GradientTransformation(lambda params: jax.tree.map(jnp.float32, mask(params)), lambda u, m, params=None: (jax.tree.map(jnp.multiply, u, m), m))
    return optax.chain(choose, optimizer, choose)


def trained(name, **kwargs):
    "One training: its time after the first report, and its curve."
    times = []
    run = train_digits(progress=False, callback=lambda *_: times.append(time.perf_counter()), **kwargs)
    steps, loss = len(run.history["loss"]), run.history["loss_ema"]
    seconds = (times[-1] - times[0])*steps/(steps - run.recipe.log_every)
    peak = next((v for k, v in peaks.items() if k in jax.devices()[0].device_kind), None)
    work = 3*direct_operations(run.model, 8)*steps*(run.recipe.batch_size or 172) if run.classes is None else None
    return dict(name=name, steps=steps, seconds=seconds, share_of_peak=work/seconds/peak if peak and work else None, device=jax.devices()[0].device_kind,
                loss={i: float(loss[i]) for i in at if i < steps}, test_loss=float(run.history["test_loss"][-1]))


def main():
    "Four trainings, one table."
    if jax.default_backend() == "cpu": sys.exit("No accelerator here: JAX sees only the processor.")
    tutorial = presets["tutorial"]
    rows = [trained("tutorial preset", digit=1, preset=tutorial),
            trained("tutorial preset, what its optimizer saw", digit=1, preset=replace(tutorial, optimizer=visible_only(clipped_adamw(5001)))),
            trained("tutorial preset, bfloat16", digit=1, preset=tutorial, dtype="bfloat16"),
            trained("default preset", preset="default")]
    save("accelerator", rows)


if __name__ == "__main__": main()
