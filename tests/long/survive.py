"""What happens to a training that is killed, that fails, or whose disk or pictures are damaged.

    python tests/long/survive.py                     # in full: 200 damages, 100 kills, 100 errors, 10,000 pictures
    python tests/long/survive.py 5 2                 # the short form: so many damages, so many kills
    python tests/long/survive.py 5 2 10 500          # and so many errors and pictures; if left out, as many errors as kills, and a hundred times as many pictures

- A full disk: training reaches its end all the same, says what it could not write, and goes on from what is there once there is room.
- Damages: checkpoints are cut short, lose a file, have a bit flipped, or come from another version or another network. Training either goes on from a whole
  checkpoint to the very same end, or is refused with one sentence, and then nothing has been changed.
- Kills: a training is killed without warning (SIGKILL) when it starts, reads its pictures, compiles, takes steps, is inside a save of a checkpoint, inside a load, or
  writes its run. It is resumed, and its weights, averages and losses in the end are those of a training that was left alone, to the last bit.
- Errors: the callback, the source of streamed pictures, the compiled program, the memory or the disk fails at a random step. The error stays the user's own, with its traceback;
  what was learned by then is in the folder, or in `error.run` where there is none, and the training can be resumed to the very same end.
- Pictures: files of every format that Pillow writes and reads are cut short, emptied, have bits flipped, another format's ending or another format's first bytes. Each is read or
  refused in one sentence with its name, also where it is streamed.

Always the same moments and faults, but a kill falls where the clock lets it. Each kind says how long it will take on two cores, and what came of it.
"""
import builtins
import collections
import contextlib
import errno
import faulthandler
import io
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from functools import cache
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1") # more devices would only compile more
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
from flax import nnx
from networks import Dense
from PIL import Image
from tqdm import tqdm

import unetdiff
from unetdiff import digits, load, pictures, train, training
from unetdiff.engine import checkpoints, loop, sources
from unetdiff.engine.devices import mesh_for

logging.getLogger("absl").setLevel(logging.CRITICAL) # Orbax says at length what we check

# --- a small training

tiny = dict(steps=200, log_every=10, batch_size=8, averaging=(17., 7.), checkpoints=dict(every=20), progress=False)


def net(width=16): return Dense(64, width, nnx.Rngs(0), classes=10)


@cache
def some_digits(): return [np.asarray(v)[:200] for v in digits()]


def go(out=None, images=None, labels=None, **changes):
    "Train into the folder, or on from what it holds."
    if images is None: images, labels = some_digits()
    return train(images, labels, **dict(model=net(), out=out, resume=out is not None) | tiny | changes)


def learned(run):
    "Everything that a run has learned, in an order that does not depend on how it was made."
    return jax.tree.leaves((checkpoints.network_arrays(run.model), run.history, run.snapshots))


def same(a, b): return all(np.array_equal(x, y) for x, y in zip(learned(a), learned(b), strict=True))


@contextlib.contextmanager
def replaced(owner, name, by):
    "Another attribute for a while; `by` makes it of the one that was there."
    usual = getattr(owner, name)
    setattr(owner, name, by(usual))
    try: yield
    finally: setattr(owner, name, usual)


def shown(n, what, seconds): # to be iterated
    "Say how long it will take, and show how far it has come."
    print(f"{n} {what}: about {max(seconds/60, .1):.1g} minutes", flush=True)
    return tqdm(range(n), desc=what, leave=False)


def listed(outcomes): return ", ".join(f"{outcomes[k]} {k}" for k in sorted(outcomes, key=outcomes.get, reverse=True))

# --- a full disk

def full(disk):
    "Train into a folder on a small disk that is almost full; then make room, and train on."
    unetdiff.keep_compiled()
    disk, out, filler = Path(disk), Path(disk)/"run", Path(disk)/"filler"
    alone = go(steps=400)
    def fill(step, metrics, run): # what is left does not hold another checkpoint; one may be under way
        if step < 110: return
        with contextlib.suppress(OSError), open(filler, "ab") as file: file.write(b"x"*max(0, shutil.disk_usage(disk).free - 20_000))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = go(out, callback=fill, steps=400)
    words = " ".join(str(w.message) for w in told)
    assert same(run, alone), "a full disk should not change what is learned"
    assert "no checkpoint at step" in words and "does not hold the run" in words, f"what could not be written should be told: {words}"
    filler.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(go(out, steps=400), alone), "training should go on once there is room"
    print("disk full: trained to the end, and went on when there was room again", flush=True)


def on_small_disk(folder):
    "The same on a disk of 8 megabytes in memory, where the system lets us have one."
    disk = Path(folder)/"disk"
    disk.mkdir()
    command = f"mount -t tmpfs -o size=8m tmpfs '{disk}' && exec '{sys.executable}' -W ignore '{__file__}' --full '{disk}'"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode: print("disk full: skipped, for no disk can be mounted here")
    else: subprocess.run(["unshare", "-rm", "sh", "-c", command], check=True)

# --- damaged checkpoints

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
        if step == tiny["steps"] - 20: signal.raise_signal(signal.SIGINT)
    with replaced(checkpoints, "__version__", lambda usual: version): go(out, callback=stop, **changes)
    return out


def damages(folder, n, seed=0):
    "Spoil checkpoints n times; how often each outcome came."
    alone, outcomes, rng = go(), collections.Counter(), random.Random(seed)
    whole = stopped(folder/"whole")
    others = {"other version": stopped(folder/"version", "9.9"), "other shapes": stopped(folder/"shapes", model=net(8))}
    for i in shown(n, "damaged checkpoints", .7*n + 5):
        out, other = folder/"spoiled", rng.choice([*others]) if rng.random() < .2 else None
        shutil.copytree(whole, out)
        steps = sorted((out/"checkpoints").iterdir())
        if other: # its newest checkpoint in the place of ours
            shutil.rmtree(steps[-1]), shutil.copytree(others[other]/"checkpoints"/steps[-1].name, steps[-1])
        hit = [other] if other else [damage(step, rng) for step in (steps[-1:] if rng.random() < .7 else steps)]
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        with warnings.catch_warnings(record=True) as told, contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("always")
            try: outcome = "went on" if same(go(out), alone) else "WRONG"
            except ValueError as e: outcome = "refused" if "\n" not in str(e) and str(e).startswith("out: got") else f"WRONG {e}"
        if outcome == "went on" and any("damaged" in str(w.message) for w in told): outcome = "fell back to the one before"
        if outcome == "refused": assert all(p.exists() and p.read_bytes() == v for p, v in before.items()), f"{hit}: a refused folder was changed"
        assert "WRONG" not in outcome, f"{hit}: {outcome}"
        outcomes[outcome] += 1
        shutil.rmtree(out)
    return outcomes

# --- kills

moments = { # name: where it begins, how often that has been reached before, how many seconds it lasts
    "starting": (None, 0, 1.),
    "reading pictures": ((sources, "read_pixels"), 250, .05), # of a folder, streamed
    "compiling": ((training, "train_steps"), 0, 2.),          # nothing is kept from before, and what is kept now may be half written
    "training": ((training, "train_steps"), 15, .1),
    "saving": ((checkpoints.Checkpoints, "_write"), 6, .15),
    "loading": ((checkpoints.Checkpoints, "read"), 0, .1),
    "writing the run": ((loop, "write_run"), 0, .02)}


def child(out, programs, files, moment, calls, here):
    "Train into a folder in a process of its own, and tell through `here` when the moment has come."
    unetdiff.keep_compiled(programs)
    warnings.simplefilter("ignore")
    place = moments[moment][0] if moment else None
    images = dict(images=pictures(files), stream=True) if files else {}
    if moment == "starting": here.send(moment)
    if not place: return go(out, **images)
    def telling(usual):
        left = [calls]
        def f(*args, **kwargs):
            if left[0] == 0: here.send(moment)
            left[0] -= 1
            return usual(*args, **kwargs)
        return f
    with replaced(*place, telling): go(out, **images)


def started(context, *args):
    "The process of a child, and the end of a pipe on which it tells that a moment has come."
    there, here = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(*args, here))
    process.start()
    here.close()
    return process, there


def kill(context, rng, moment, out, programs, files, fresh):
    "Kill one training in that moment; False if it had reached its end before."
    _, most, lasts = moments[moment]
    process, there = started(context, out, fresh if moment == "compiling" else programs, files, moment, rng.randint(0, most))
    try: there.recv()
    except EOFError: pass # it has ended
    else: time.sleep(lasts*rng.random())
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"{moment}: a resumed training ended with {process.exitcode}"
    return process.exitcode != 0


def write_pictures(folder):
    "The digits as files, in a folder for each class."
    for i, (x, y) in enumerate(zip(*some_digits())):
        (folder/str(y)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((255*x[..., 0]).astype(np.uint8)).save(folder/str(y)/f"{i}.png")
    return folder


def kills(folder, n, seed=0):
    "Kill trainings n times, up to six times each, and resume them; how often in which moment."
    files, programs, rng, outcomes, count = write_pictures(folder/"files"), folder/"programs", random.Random(seed), collections.Counter(), 0
    context = get_context("forkserver") # a process that has imported everything, and computed nothing
    context.set_forkserver_preload(["__main__", "unetdiff.training", "orbax.checkpoint", "grain"])
    alone = {None: go(), files: go(images=pictures(files), stream=True)}
    bar = iter(shown(n, "kills", 3*n + 10))
    while sum(outcomes.values()) < n:
        count += 1
        out, source = folder/f"killed{count}", files if rng.random() < .4 else None
        for _ in range(min(rng.randint(1, 6), n - sum(outcomes.values()))):
            moment = rng.choice([m for m in moments if source or m != "reading pictures"])
            if not kill(context, rng, moment, out, programs, source, folder/f"fresh{count}"): break
            outcomes[moment] += 1
            next(bar)
        process, _ = started(context, out, programs, source, None, 0)
        process.join()
        assert process.exitcode == 0, f"the last training should have reached its end, and not {process.exitcode}"
        assert same(load(out, model=net()), alone[source]), f"killed {dict(outcomes)}: a resumed training should end as one that was left alone, to the bit"
        shutil.rmtree(out)
    list(bar)
    return outcomes

# --- errors

class Broken(Exception):
    "An error of the user's."


def fails(error): raise error


def after(calls, error, also=lambda *args: None): # -> what makes a function of another one
    "The same function, for so many calls; then it does its work once more, if it is `also`, and fails."
    def make(usual):
        left = [calls]
        def f(*args, **kwargs):
            left[0] -= 1
            if left[0] >= 0: return usual(*args, **kwargs)
            if also is True: usual(*args, **kwargs) # what it was given may be gone now
            fails(error)
        return f
    return make


class Source:
    "Digits as a source of pictures, which breaks after so many have been read."
    def __init__(self, reads=10**9, error=None): self.left, self.error = reads, error
    def __len__(self): return 200
    def __getitem__(self, i):
        self.left -= 1
        if self.left < 0: fails(self.error)
        return some_digits()[0][i], some_digits()[1][i]


def by_callback(rng, call, error):
    at = rng.randrange(10, 200, 10)
    call(callback=lambda step, *_: step == at and fails(error))

def by_source(rng, call, error): call(images=Source(rng.randint(0, 1500), error), stream=True)

def by_program(rng, call, error):
    with replaced(training, "train_steps", after(rng.randint(0, 19), error, rng.random() < .5)): call()

def by_memory(rng, call, error):
    with replaced(training, rng.choice(["train_steps", "held_out_loss", "local_copy"]), after(rng.randint(0, 19), error, rng.random() < .5)): call()

def by_checkpoints(rng, call, error):
    with replaced(checkpoints, "copied", after(rng.randint(0, 19), error)): call()

broken = dict(callback=by_callback, source=by_source, program=by_program, memory=by_memory, checkpoints=by_checkpoints)
errors_of = dict(callback=lambda: Broken("no answer"), source=lambda: OSError(5, "Input/output error"), program=lambda: jax.errors.JaxRuntimeError("INTERNAL: the device has failed"),
                 memory=lambda: jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), checkpoints=MemoryError)


@contextlib.contextmanager
def broken_disk(folder, writes, number):
    "From then on, whatever Python writes below a folder fails."
    left, lock = [writes], folder/".lock"
    def failing(usual):
        def f(path, *args, **kwargs):
            mode = [*args, kwargs.get("mode", "")][0] if usual is not os.open else "w" if args[0] & (os.O_WRONLY | os.O_RDWR) else "r"
            writes = usual in (os.mkdir, os.replace, os.rename) or set(str(mode)) & set("wax+")
            ours = isinstance(path, (str, os.PathLike)) and str(path).startswith(str(folder)) and Path(path) != lock
            if writes and ours: left[0] -= 1
            if writes and ours and left[0] < 0: fails(OSError(number, os.strerror(number), str(path)))
            return usual(path, *args, **kwargs)
        return f
    with contextlib.ExitStack() as stack:
        for owner, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "mkdir"), (os, "replace"), (os, "rename")): stack.enter_context(replaced(owner, name, failing))
        yield


def fail(kind, rng, out):
    "One training that fails: its error, and the step of the last report that the user has seen; None if it reached its end before."
    error, seen = errors_of[kind](), [0]
    def call(images=None, callback=None, **changes):
        def watching(step, metrics, run):
            seen.append(step)
            if callback: callback(step, metrics, run)
        go(out, images, callback=watching, **changes)
    try: broken[kind](rng, call, error)
    except BaseException as e: caught = e
    else: return None
    assert caught is error, f"{kind}: the error became {caught!r}"
    assert traceback.extract_tb(caught.__traceback__)[-1].name == "fails", f"{kind}: the traceback should lead to where it failed"
    return caught, seen[-1]


def disk_breaks(rng, out, alone):
    "A disk on which nothing can be written any more, from a random moment on; then it is whole again. What was said."
    number = rng.choice([errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
    with broken_disk(out, rng.randint(0, 100), number), warnings.catch_warnings(record=True) as told, contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("always")
        try: assert same(go(out), alone), "a broken disk should not change what is learned"
        except OSError as e:
            assert str(e).startswith("out: got") and not out.exists(), f"a disk that breaks later should be a warning, and not {e!r}"
            said = "refused at once"
        else: said = "told in warnings" if any(os.strerror(number) in str(w.message) for w in told) else "not reached"
    assert same(go(out), alone), "training should go on once the disk is whole"
    return said


def breaks(rng, out, alone, reports):
    "A training that fails, and what is left of it. What became of it; `reports` are the runs of one that was left alone, by their step."
    kind = rng.choice([*broken])
    if kind != "checkpoints" and rng.random() < .4: out = None
    failed, is_streamed = fail(kind, rng, out), kind == "source"
    if failed is None: return f"{kind}: not reached"
    error, seen = failed
    step = len(error.run.history["loss"]) if hasattr(error, "run") else 0
    assert step >= seen, f"{kind}: {seen} steps had been reported, and {step} are kept"
    if step:
        assert same(error.run, reports[is_streamed][step]), f"{kind} at step {step}: the error should carry the run"
        assert any("is kept" in note for note in error.__notes__), f"{kind} at step {step}: the error should say where it is: {error.__notes__}"
    if out is None: return f"{kind}: kept in the error" if step else f"{kind}: before the first report"
    if step: assert same(load(out, model=net()), error.run), f"{kind} at step {step}: the folder should have the run"
    again = dict(images=Source(), stream=True) if is_streamed else {}
    assert same(go(out, **again), alone[is_streamed]), f"{kind} at step {step}: a resumed training should end as one that was left alone"
    return f"{kind}: resumed"


def errors(folder, n, seed=0):
    "Break trainings n times; how often each kind of error left what, and was resumed from it."
    rng, outcomes, reports = random.Random(seed), collections.Counter(), {False: {}, True: {}}
    keep = lambda streamed: lambda step, metrics, run: reports[streamed].update({step: run})
    alone = {False: go(callback=keep(False)), True: go(images=Source(), stream=True, callback=keep(True))}
    for i in shown(n, "errors", .6*n + 10):
        out = folder/str(i)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if rng.random() < .2: outcomes[f"disk: {disk_breaks(rng, out, alone[False])}"] += 1
            else: outcomes[breaks(rng, out, alone, reports)] += 1
        shutil.rmtree(out, ignore_errors=True)
    return outcomes

# --- damaged pictures

@cache
def formats():
    "What Pillow writes and reads: pairs of an ending and a file's bytes, of several kinds of pixels."
    picture, found = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)), []
    endings = {}
    for ending, name in sorted(Image.registered_extensions().items()):
        if name in Image.SAVE and name in Image.OPEN: endings.setdefault(name, []).append(ending)
    for name, several in endings.items():
        for i, mode in enumerate(("RGB", "L", "P", "1", "RGBA")):
            file = io.BytesIO()
            with contextlib.suppress(Exception): # not every format has every mode; some need a handler of the user's
                picture.resize((32, 32) if name == "ICNS" else picture.size).convert(mode).save(file, name, **{"sizes": [(32, 32)]} if name == "ICNS" else {})
                found.append((several[i % len(several)], file.getvalue()))
    return found


def spoiled(rng):
    "How a picture was damaged, its ending, and its bytes."
    ending, content = rng.choice(formats())
    data, how = bytearray(content), rng.choice(["cut", "bits flipped", "emptied", "another ending", "another head", "whole"])
    if how == "cut": del data[rng.randrange(len(data)):]
    if how == "bits flipped":
        for _ in range(rng.choice([1, 1, 3, 30])): data[int(len(data)*rng.random()**3)] ^= 1 << rng.randrange(8) # often in the head
    if how == "emptied": data.clear()
    if how == "another ending": ending = rng.choice(formats())[0]
    if how == "another head":
        head = rng.choice([4, 16, 64])
        data[:head] = rng.choice(formats())[1][:head]
    return how, ending, bytes(data)


def read(get, name):
    "Whether a picture was read or refused in one sentence with its name."
    try: x = get()
    except ValueError as error:
        said = str(error)
        assert said.startswith("images: got ") and ", but takes " in said and name in said and "\n" not in said, f"{name}: {said}"
        return "refused"
    except Exception as error: raise AssertionError(f"{name}: {error!r}") from error
    assert x.shape == (8, 8, 3) and x.dtype == np.uint8, f"{name}: {x.shape} {x.dtype}"
    return "read"


def damaged_pictures(folder, n, seed=0):
    "Damage n pictures in folders of ten, and read them; how often which came of it. One of each fourth folder is streamed as well."
    rng, outcomes, count = random.Random(seed), collections.Counter(), iter(shown(n, "damaged pictures", n/150 + 5))
    for place in (folder/str(i) for i in range(-(-n//10))):
        place.mkdir()
        Image.new("RGB", (9, 9)).save(place/"0.png") # the first one is whole
        hows = {}
        for i, _ in zip(range(1, 11), count):
            how, ending, data = spoiled(rng)
            hows[f"{i:02}{ending}"] = how
            (place/f"{i:02}{ending}").write_bytes(data)
        found = pictures(place, size=8, channels=3)
        assert {Path(p).name for p in found.source} == {"0.png", *hows}
        for i, file in enumerate(found.source):
            faulthandler.dump_traceback_later(60, exit=True) # nothing may hang
            came = read(lambda: found[i], Path(file).name)
            if i == 1 and int(place.name) % 4 == 0: assert read(lambda: next(sources.read_ahead(sources.epoch_batches(found[[i, i]], None, 2, 0), 0, 1, one_device()))[0][0][0], Path(file).name) == came
            if file.name in hows: outcomes[f"{hows[file.name]}: {came}"] += 1
        faulthandler.cancel_dump_traceback_later()
        shutil.rmtree(place)
    return outcomes


@cache
def one_device(): return mesh_for(1)

# --- all of them

def main(n_damages=200, n_kills=100, n_errors=None, n_pictures=None):
    "So many of each; errors are as many as kills, and pictures a hundred times that, if they are not given."
    n_errors = n_kills if n_errors is None else n_errors
    n_pictures = 100*n_kills if n_pictures is None else n_pictures
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        on_small_disk(folder)
        unetdiff.keep_compiled(folder/"programs")
        for name, do, n, promise in (("damaged", damages, n_damages, "to the same end, or refused in one sentence"), ("killed", kills, n_kills, "resumed each time, to the same end to the last bit"),
                                     ("failed", errors, n_errors, "nothing learned was lost"), ("damaged pictures", damaged_pictures, n_pictures, "none was anything else")):
            (folder/name).mkdir()
            outcomes = do(folder/name, n)
            print(f"{name}: {sum(outcomes.values())} times ({listed(outcomes)}); {promise}; after {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--full"]: full(sys.argv[2])
    else: main(*map(int, sys.argv[1:]))
