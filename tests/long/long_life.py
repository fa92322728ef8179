"""A long life in one process: memory, time a call, files and open handles stay level.

    python tests/long/long_life.py [trainings]

A hundred trainings alike but for their seeds, a hundred of other lengths, ten times as many calls of `sample` (of other sizes, labels, guidance and seeds), ten times as
many of `reconstruct`, and five times as many checkpoints that are written, read and deleted; another number after it makes it shorter (with less than 20 there are no trainings
of other lengths, each of which has to be compiled). Two trainings at once, in two threads, give the same bits as one after the other. Each line of the table is
a tenth of the calls. It fails where memory has grown by more than 48 MiB since the first half, where a call takes twice as long as in the first half, or where files or open handles become more.
(Ten minutes on two cores.)
"""
import gc
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
import psutil
from flax import nnx
from networks import Dense

from unetdiff import train
from unetdiff.engine.checkpoints import Checkpoints, Progress
from unetdiff.engine.devices import layout_for, place

most = 48 # MiB
me = psutil.Process()
rng = np.random.default_rng(0)
x, y = rng.random((40, 8, 8, 1), np.float32), np.arange(40) % 3


def trained(seed=0, steps=5):
    "A short training of a network that is hardly any."
    return train(x, y, model=Dense(64, 16, nnx.Rngs(0), classes=3), seed=seed, steps=steps, log_every=5, batch_size=8, progress=False)


def handles(): return me.num_fds() if hasattr(me, "num_fds") else me.num_handles()


def live(name, call, n, files=lambda: 0):
    "Call it n times, print a line for each tenth, and compare the second half with the first."
    table = []
    for part in np.array_split(np.arange(n), min(n, 10)):
        start = time.process_time()
        for i in part: call(int(i))
        seconds = (time.process_time() - start)/len(part)
        kept = files()
        gc.collect()
        table.append((me.memory_info().rss/2**20, seconds, handles(), kept))
        print(f"{name:24} {part[-1] + 1:6} {table[-1][0]:8.0f} {seconds:10.4f} {table[-1][2]:8} {table[-1][3]:6}", flush=True)
    first, second = np.array_split(np.array(table), 2)
    grown = second.max(0) - first.max(0)
    slower = np.median(second[:, 1]) > 2*np.median(first[1:, 1]) + .02 if len(first) > 1 else False
    return [f"{name}: {what}" for what, bad in ((f"memory grew by {grown[0]:.0f} MiB", grown[0] > most), ("calls take twice as long", slower), (f"{grown[2]:.0f} more open handles", grown[2] > 4), (f"{grown[3]:.0f} more files", grown[3] > 4)) if bad]


def at_once():
    "Are two trainings in two threads what they are one after the other, to the last bit?"
    learned = lambda run: [np.asarray(a).tobytes() for a in (*jax.tree.leaves(nnx.state(run.model)), run.history["loss"])]
    with ThreadPoolExecutor(2) as pool: together = [*pool.map(trained, (1, 2))]
    return [] if [learned(r) for r in together] == [learned(trained(seed)) for seed in (1, 2)] else ["two trainings at once give other bits"]


def checkpoints(n):
    "Write n checkpoints, and read every tenth."
    state = place((np.arange(10000, dtype=np.float32),), layout_for(1).everywhere)
    with tempfile.TemporaryDirectory() as folder, Checkpoints(folder, {}) as store:
        def save(i):
            store.save(Progress(state, [0.]*(i + 1), [[i, 0.]], {}))
            if i % 10 == 9: assert len(store.newest(state).losses) == i + 1
        def files():
            store.manager.wait_until_finished() # its threads hold files open while they write
            return sum(1 for _ in Path(folder).rglob("*"))
        return live("checkpoints", save, n, files)


def main(n=100):
    print(f"{'':24} {'calls':>6} {'MiB':>8} {'s a call':>10} {'handles':>8} {'files':>6}")
    run = trained()
    wrong = live("trainings alike", trained, n)
    if n >= 20: wrong += live("of other lengths", lambda i: trained(steps=5 + i), n)
    wrong += live("samples", lambda i: run.sample(1 + i % 41, i % 3, guidance=1 + i % 7/10, seed=i), 10*n)
    wrong += live("reconstructions", lambda i: run.reconstruct(x[:1 + i % 40], y[:1 + i % 40], seed=i), 10*n)
    wrong += at_once() + checkpoints(5*n)
    if wrong: sys.exit("; ".join(wrong))


if __name__ == "__main__": main(*map(int, sys.argv[1:]))
