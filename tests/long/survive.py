"""What happens to a training that is killed, and to one whose checkpoints are damaged.

    python tests/long/survive.py [damages] [kills]

Kills: a training is killed without warning (SIGKILL) at random moments, 25 of them, and resumed each time; its weights, averages and losses have to be
those of a training that was left alone, to the last bit. Damages: checkpoints are cut short, lose a file, have a bit flipped, or come from another version
or another network, 200 times; each time the training either goes on from a whole checkpoint to the very same end, or is refused with one sentence. And a
disk runs full: training reaches its end all the same, says what it could not write, and goes on from what is there once there is room again. Nine
minutes on two cores.
"""
import contextlib
import io
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import jax
import numpy as np

import unetdiff
from unetdiff import digits, load, train
from unetdiff.engine import checkpoints
from unetdiff.engine.devices import start_devices

small = dict(net=dict(features=8, channel_mults=(1,), attention_levels=()), log_every=10, averaging=(17., 7.), progress=False)
shorter = small | dict(steps=400)
often = dict(every=20)


def child(out, steps):
    "Train into the folder, from where it was left."
    unetdiff.keep_compiled()
    start_devices()
    train(*digits(), out=out, resume=True, checkpoints=often, steps=int(steps), **small)


def learned(run):
    "Everything that a run has learned, in an order that does not depend on how it was made."
    return jax.tree.leaves((checkpoints.network_arrays(run.model), run.history, run.snapshots))


def same(a, b): return all(np.array_equal(x, y) for x, y in zip(learned(a), learned(b), strict=True))


def kills(folder, n, steps, seed=0):
    "Kill a training of so many steps n times; what came out in the end, and how far it had come each time."
    out, rng, done = Path(folder)/"killed", random.Random(seed), []
    while True:
        process = subprocess.Popen([sys.executable, "-W", "ignore", __file__, "--child", str(out), str(steps)])
        seen = lambda: max((int(p.name) for p in (out/"checkpoints").glob("[0-9]*") if p.name.isdigit()), default=0)
        if len(done) == n:
            assert process.wait() == 0, "the last training should have reached its end"
            return load(out), done
        before, anywhere = seen(), rng.random() < .3 # some die early, importing or compiling; the others get on
        while not anywhere and process.poll() is None and seen() <= before: time.sleep(.01)
        time.sleep(rng.random()*(8 if anywhere else .5))
        assert process.poll() is None, "the training was over before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        done.append(seen())


def damage(path, rng):
    "Spoil one file below a folder; what was done to it."
    file = rng.choice(sorted(p for p in path.rglob("*") if p.is_file() and p.stat().st_size))
    data = bytearray(file.read_bytes())
    how = rng.choice(["cut", "flip", "remove"])
    if how == "flip": data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    if how == "cut": del data[rng.randrange(len(data)):]
    if how == "remove": file.unlink()
    else: file.write_bytes(data)
    return how, str(file.relative_to(path))


def stopped(out, version=unetdiff.__version__, **changes):
    "A training that was stopped before its end, as this version or another would have left it."
    def stop(step, metrics, run):
        if step == shorter["steps"] - 20: signal.raise_signal(signal.SIGINT)
    here, checkpoints.__version__ = checkpoints.__version__, version
    train(*digits(), out=out, checkpoints=often, callback=stop, **shorter | changes)
    checkpoints.__version__ = here
    return out


def damages(folder, n, seed=0):
    "Spoil checkpoints n times; how often each outcome came."
    alone, folder, outcomes = train(*digits(), **shorter), Path(folder), {}
    whole = stopped(folder/"whole")
    others = {"other version": stopped(folder/"version", "9.9"), "other shapes": stopped(folder/"shapes", net=dict(features=4, channel_mults=(1,), attention_levels=()))}
    rng = random.Random(seed)
    for i in range(n):
        out, other = folder/"spoiled", rng.choice([*others]) if rng.random() < .2 else None
        shutil.copytree(whole, out)
        steps = sorted((out/"checkpoints").iterdir())
        if other: # its newest checkpoint in the place of ours
            shutil.rmtree(steps[-1]), shutil.copytree(others[other]/"checkpoints"/steps[-1].name, steps[-1])
        hit = [other] if other else [damage(step, rng) for step in (steps[-1:] if rng.random() < .7 else steps)]
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        with warnings.catch_warnings(record=True) as told, contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("always")
            try: outcome = "went on" if same(train(*digits(), out=out, resume=True, checkpoints=often, **shorter), alone) else "WRONG"
            except ValueError as e: outcome = "refused" if "\n" not in str(e) and str(e).startswith("out: got") else f"WRONG {e}"
        if outcome == "went on" and any("damaged" in str(w.message) for w in told): outcome = "fell back"
        if outcome == "refused": assert all(p.exists() and p.read_bytes() == v for p, v in before.items()), f"{hit}: a refused folder was changed"
        assert "WRONG" not in outcome, f"{hit}: {outcome}"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        shutil.rmtree(out)
    return outcomes


def full(disk):
    "Train into a folder on a small disk that is almost full; then make room, and train on."
    disk, out, filler = Path(disk), Path(disk)/"run", Path(disk)/"filler"
    alone = train(*digits(), **shorter)
    def fill(step, metrics, run): # what is left does not hold another checkpoint
        if step == 100: filler.write_bytes(b"x"*(shutil.disk_usage(disk).free - 50_000))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = train(*digits(), out=out, checkpoints=often, callback=fill, **shorter)
    words = " ".join(str(w.message) for w in told)
    assert same(run, alone), "a full disk should not change what is learned"
    assert "no checkpoint at step" in words and "does not hold the run" in words, f"what could not be written should be told: {words}"
    filler.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(train(*digits(), out=out, resume=True, checkpoints=often, **shorter), alone), "training should go on once there is room"
    print("disk full: trained to the end, and went on when there was room again", flush=True)


def on_small_disk(folder):
    "The same on a disk of 8 megabytes in memory, where the system lets us have one."
    disk = Path(folder)/"disk"
    disk.mkdir()
    command = f"mount -t tmpfs -o size=8m tmpfs '{disk}' && exec '{sys.executable}' '{__file__}' --full '{disk}'"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode: print("disk full: skipped, for no disk can be mounted here")
    else: subprocess.run(["unshare", "-rm", "sh", "-c", command], check=True)


def main(n_damages=200, n_kills=25):
    "A full disk, so many damaged checkpoints, so many kills."
    with tempfile.TemporaryDirectory() as folder: on_small_disk(folder)
    with tempfile.TemporaryDirectory() as folder:
        print("damaged:", damages(folder, n_damages), flush=True)
        steps = 120*(1 + n_kills)
        run, done = kills(folder, n_kills, steps)
        assert same(run, train(*digits(), steps=steps, **small)), "a resumed training should end as one that was left alone, to the bit"
        print(f"killed {len(done)} times, at checkpoints {done}: the same to the last bit")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]: child(*sys.argv[2:])
    elif sys.argv[1:2] == ["--full"]: full(sys.argv[2])
    else: main(*map(int, sys.argv[1:]))
