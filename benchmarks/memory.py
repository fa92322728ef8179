"""Peak memory of a training step, and what held-out loss, samples and likelihood take beyond it: pictures of 8 to 128 pixels.

    python benchmarks/memory.py

Each row is a process of its own on two cores. It loads programs that an earlier one has kept, so that compiling does not count, and says after each part how far the resident memory
has risen above that after the import, at most. A column equal to the one before needed no more than what had been taken until then.
"""
import json
import sys
import tempfile

from common import cold, cores, memory, save

cases = [ # size, channels, batch_size, grad_accum_steps
    (8, 1, 64, 1), (28, 1, 64, 1), (64, 3, 2, 1), (64, 3, 32, 1), (64, 3, 32, 4), (128, 3, 2, 1), (128, 3, 4, 2)]


def worker(folder, size, channels, batch_size, parts):
    "Two steps with the default net, the held-out loss after them, 64 samples, and the likelihood of four pictures: the peak after each, MiB above that after the import."
    import jax, numpy as np
    import unetdiff
    from unetdiff import training
    unetdiff.keep_compiled(folder)
    before, at = memory(), {}
    def watched(name, f):
        def g(*args, **kwargs):
            result = jax.block_until_ready(f(*args, **kwargs))
            at.setdefault(name, memory() - before)
            return result
        g.compile_beside = getattr(f, "compile_beside", None) # what `train` asks of the held-out loss
        return g
    training.train_steps = watched("step", training.train_steps)
    training.held_out_loss = watched("held_out", training.held_out_loss)
    levels = np.random.default_rng(0).integers(0, 17, (80, size, size, channels))
    images = (levels/16).astype(np.float32)
    run = unetdiff.train(images, batch_size=batch_size, grad_accum_steps=parts, steps=2, log_every=2, progress=False)
    watched("samples", run.sample)(64, steps=2)
    watched("likelihood", run.bits_per_dim)(images[:4], stops=2)
    name = f"{size} x {size}{' in colour'*(channels == 3)}, batches of {batch_size}{f' in {parts} parts'*(parts > 1)}"
    return dict(name=name, size=size, channels=channels, batch_size=batch_size, grad_accum_steps=parts, **at)


def main():
    "Each case twice, of which the second counts."
    rows = []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder: rows.append([cold(__file__, folder, *case, on=cores()[:2]) for _ in range(2)][1])
        print(rows[-1], flush=True)
    save("memory", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(worker(sys.argv[3], *map(int, sys.argv[4:]))))
    else: main()
