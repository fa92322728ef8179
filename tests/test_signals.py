"""Ctrl-C, pressed once and twice: while Python runs, while compiled code runs, and while it is compiled."""
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import pytest
from networks import Scale

from unetdiff import train
from unetdiff.engine.loop import Pace, stop_signals, wait_for

posix = pytest.mark.skipif(sys.platform == "win32", reason="another process's Ctrl-C cannot be imitated here")
busy = "import hashlib; busy = lambda rounds: hashlib.pbkdf2_hmac('sha256', b'', b'', rounds)" # compiled code, in which Python handles no signal
minute = 50_000_000 # rounds that take at least some twenty seconds


class Talk:
    "A Python program in a process of its own, and what it says, line by line."
    def __init__(self, code):
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        self.process = subprocess.Popen([sys.executable, "-u", "-W", "ignore", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
        self.said = []

    def __enter__(self): return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()

    def hear(self, words):
        "Read on until a line has these words."
        for line in self.process.stdout:
            self.said.append(line)
            if words in line: return line
        raise AssertionError(f"never said {words!r}, but {''.join(self.said)}")

    def press(self): self.process.send_signal(signal.SIGINT)

    def end(self, seconds):
        "The exit code; what it says until then is kept."
        self.said += self.process.communicate(timeout=seconds)[0].splitlines(True)
        return self.process.returncode


@posix
def test_first_is_told_and_second_ends_while_compiled_code_runs():
    with Talk(f"""{busy}
import signal
from unetdiff.engine.loop import stop_signals
with stop_signals(signal.SIGINT, tell=lambda number: print("heard", number)):
    print("ready")
    busy({minute})
    print("done")""") as talk:
        talk.hear("ready")
        talk.press()
        talk.hear("heard 2")
        talk.press()
        assert talk.end(15) == 130, f"the second Ctrl-C did not end the process: {talk.said}"
        assert "done\n" not in talk.said, "it was told only when the compiled code had come to its end"


@posix
def test_second_spares_a_notebook():
    "Where somebody works in the process, it goes on; KeyboardInterrupt comes when Python does."
    with Talk(f"""{busy}
import signal, sys
from unetdiff.engine.loop import stop_signals
sys.ps1 = ">>> "
try:
    with stop_signals(signal.SIGINT, tell=lambda number: print("heard", number)):
        print("ready")
        busy(8_000_000)
        print("done")
except KeyboardInterrupt: print("interrupted")
print("alive")""") as talk:
        talk.hear("ready")
        talk.press()
        talk.hear("heard 2")
        talk.press()
        assert talk.end(60) == 0 and talk.said[-2:] == ["interrupted\n", "alive\n"], talk.said


long_chunks = """import signal, sys, numpy as np, jax, unetdiff
from networks import Scale
unetdiff.keep_compiled()
def train(report, steps=2_000_000, **settings):
    return unetdiff.train(np.full((20, 9, 7, 1), .5, np.float32), model=Scale(), steps=steps, batch_size=4, progress=False, callback=report, **settings)
"""


@posix
@pytest.mark.parametrize("catches", [False, True])
def test_second_ends_a_training_at_once(catches):
    "The chunk that is being computed takes minutes; neither training nor Python's exit waits for it, and the program may still tidy up."
    tidy = "finally: print('tidied')" if not catches else "except KeyboardInterrupt as error: print('caught', len(error.run.history['loss'])); raise"
    with Talk(f"""{long_chunks}
import time, unetdiff.training as t
compute = t.train_steps
def train_steps(state, start, stop, *rest, **fixed): # the first chunk takes longer than until the key is pressed in the second, which is a thousand times as long
    print("second", flush=True) if start else time.sleep(2)
    return compute(state, start, start + 1_000_000*bool(start) or stop, *rest, **fixed)
t.train_steps = train_steps
import atexit
atexit.register(print, "farewell")
try: train(None, steps=3_000_000, log_every=1000)
{tidy}""") as talk:
        talk.hear("second")
        time.sleep(.5)
        talk.press()
        told = talk.hear("stopping")
        assert told.startswith("stopping after step 2000, at most "), told
        talk.press()
        assert talk.end(20) in (130, -signal.SIGINT), talk.said
        assert ("caught 1000\n" if catches else "tidied\n") in talk.said and "farewell\n" in talk.said, talk.said


def test_first_stops_at_the_first_report_while_it_compiles(capsys, bars):
    usual, pressed = signal.getsignal(signal.SIGINT), []
    class Interrupted(Scale):
        "Ctrl-C is pressed while it is traced for the training."
        def __call__(self, x, t):
            if signal.getsignal(signal.SIGINT) != usual and not pressed:
                pressed.append(True)
                signal.raise_signal(signal.SIGINT)
            return super().__call__(x, t)
    run = train(bars, model=Interrupted(), steps=40, log_every=10, batch_size=8, progress=False)
    assert len(run.history["loss"]) == 10, "it did not stop at the first report"
    assert "stopping as soon as it is compiled, at the first report; Ctrl-C again ends it at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) == usual


def test_second_interrupts_python_at_once():
    with pytest.raises(KeyboardInterrupt), stop_signals(signal.SIGINT) as came:
        signal.raise_signal(signal.SIGINT)
        assert came == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one was swallowed")


def test_no_signal_leaves_everything_as_it_was():
    usual, threads = signal.getsignal(signal.SIGINT), threading.active_count()
    with stop_signals(signal.SIGINT, signal.SIGTERM): pass
    assert signal.getsignal(signal.SIGINT) == usual and threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1, "signals are still written to a socket that is closed"


def test_waiting_is_interrupted_and_gives_the_array():
    array = SimpleNamespace(block_until_ready=lambda: time.sleep(60)) # compiled code
    press = threading.Timer(.2, signal.raise_signal, [signal.SIGINT])
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        press.start()
        wait_for(array)
    assert time.monotonic() - start < 30, "it waited until the array was computed"
    ready = jnp.arange(3)
    assert wait_for(ready) is ready


def test_pace_says_where_a_training_ends():
    now = time.monotonic()
    pace = Pace(950)
    assert pace.end() == "as soon as it is compiled, at the first report"
    pace.start(200)
    assert pace.end() == "as soon as it is compiled, at the first report"
    pace.reports = [(200, now - 100), (500, now - 20)]
    assert pace.end() == "after step 800, at most 60 s", "until there is a second report, the first one has to do, although it was compiled for"
    pace.reports += [(800, now - 10.5)]
    assert pace.end() == "after step 950", "the last report has come late already; no time is promised"
    pace.reports[-1] = (800, now - 3.5)
    assert pace.end() == "after step 950, at most 13 s"


def test_pace_hears_of_each_report():
    pace = Pace(30)
    for n in (10, 20): pace.after_report(SimpleNamespace(losses=[0.]*n), None)
    assert [step for step, _ in pace.reports] == [0, 10, 20] and pace.end().startswith("after step 30")
