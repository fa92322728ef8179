"""The tutorial preset to its end on a GPU or TPU, with all of the network learning and with what the tutorial's optimizer saw, and the default preset.

    python benchmarks/accelerator.py
"""
import sys
import time

import jax

from common import save
from nets import direct_operations
from tutorial_full import frozen_blocks
from unetdiff import train_digits

peaks = {"H100": 67e12, "A100": 19.5e12, "L4": 30.3e12, "T4": 8.1e12}  # float32 operations a second, from NVIDIA's data sheets


def trained(name, **kwargs):
    "One training: its time after the first report, and its curve."
    times = []
    run = train_digits(progress=False, callback=lambda *_: times.append(time.perf_counter()), **kwargs)
    steps = len(run.history["loss"])
    seconds = (times[-1] - times[0])*steps/(steps - run.recipe.log_every)
    peak = next((v for k, v in peaks.items() if k in jax.devices()[0].device_kind), None)
    work = 3*direct_operations(run.model, run.info["shape"])*steps*(run.recipe.batch_size or 172) if run.recipe.optimizer == "clipped_adamw" else None  # all of it learns
    return dict(name=name, steps=steps, seconds=seconds, share_of_peak=work/seconds/peak if peak and work else None, device=jax.devices()[0].device_kind,
                loss={i: float(run.history["loss_ema"][i]) for i in range(0, steps, 100)}, test_loss=float(run.history["test_loss"][-1]))


def main():
    "Four trainings, one table."
    if jax.default_backend() == "cpu": sys.exit("No accelerator here: JAX sees only the processor.")
    tutorial = dict(digit=1, preset="tutorial")
    rows = [trained("tutorial preset", **tutorial),
            trained("tutorial preset, what its optimizer saw", **tutorial | frozen_blocks()),
            trained("tutorial preset, bfloat16", **tutorial, dtype="bfloat16"),
            trained("default preset")]
    save("accelerator", rows)


if __name__ == "__main__": main()
