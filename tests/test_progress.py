"""What a training says on its way: the bar, lines in its place, and streams that are missing or that nobody reads."""
import io
import os
import re
import sys
from types import SimpleNamespace

import pytest
from networks import Scale
from tqdm.std import tqdm

from unetdiff import train
from unetdiff.engine import loop
from unetdiff.engine.loop import print_progress, progress_bar, say, show_progress, shows_bars

settings = dict(steps=200, log_every=2, batch_size=4)


class Shown(tqdm):
    "A bar that is shown although the tests switch bars off; the newest is kept."
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs | dict(disable=False))
        Shown.newest = self


@pytest.fixture
def bars_on(monkeypatch): monkeypatch.setattr(loop, "tqdm", Shown)


def report(step, loss=.5): return SimpleNamespace(losses=[loss]*step), SimpleNamespace(metrics=dict(loss=loss))


def test_time_is_counted_from_the_first_report(monkeypatch):
    now = 1000.
    monkeypatch.setattr(loop, "time", SimpleNamespace(time=lambda: now))
    bar = Shown(total=4000, file=io.StringIO())
    bar._time = loop.time.time
    bar.start_t = bar.last_print_t = now
    move = show_progress(bar)
    now += 300 # compiling
    move(*report(100))
    assert bar.n == 100 and bar.format_dict["elapsed"] == 0
    for step in (200, 300, 400):
        now += 2
        move(*report(step))
    shown = str(bar)
    assert "400/4000 [00:06<01:12, 50.00it/s" in shown, f"steps since the first report, 50 a second, are not what it shows: {shown}"


def test_bar_of_a_resumed_training_starts_where_it_was(tmp_path, bars, bars_on, monkeypatch):
    monkeypatch.setattr(loop, "shows_bars", lambda: True)
    half = dict(model=Scale(), out=tmp_path/"run", **settings | dict(log_every=50))
    train(bars, callback=lambda step, *_: step == 100, progress=False, **half)
    seen = []
    class Watching(Scale):
        "Remembers what the bar shows while it is compiled."
        def __call__(self, x, t):
            if hasattr(Shown, "newest"): seen.append((Shown.newest.n, Shown.newest.initial))
            return super().__call__(x, t)
    train(bars, resume=True, **half | dict(model=Watching()))
    assert seen[-1] == (100, 100), f"while it compiles, the bar shows step and start {seen[-1]}"
    assert (Shown.newest.n, Shown.newest.initial) == (200, 150), "at the end it has counted other steps than those since the first report"


def test_without_a_terminal_progress_is_a_few_lines(bars, bars_on, capsys):
    assert not shows_bars()
    train(bars, model=Scale(), **settings)
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert "\r" not in said and 10 <= len(lines) <= 12, f"{len(lines)} lines for a hundred reports: {said[:500]}"
    assert all(re.fullmatch(r"training: \d+ of 200 steps, \S+ left, .*loss=\S+, loss_ema=\S+, test_loss=\S+", line) for line in lines), said
    assert lines[-1].startswith("training: 200 of 200")


def test_lines_come_each_minute_of_a_slow_training(monkeypatch, capsys):
    now = 0.
    monkeypatch.setattr(loop, "time", SimpleNamespace(time=lambda: now, monotonic=lambda: now))
    with open(os.devnull, "w") as nowhere, Shown(total=10**6, file=nowhere) as bar:
        tell = print_progress(bar)
        for bar.n in range(100):
            now += 20
            tell(*report(bar.n))
    assert len(capsys.readouterr().err.splitlines()) == 34


def gone():
    "A stream whose reader has gone."
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w", buffering=1)


def closed():
    "A closed stream."
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [lambda: None, gone, closed], ids=["none", "gone", "closed"])
def test_training_needs_no_streams(bars, bars_on, monkeypatch, stream):
    for name in ("stdout", "stderr"): monkeypatch.setattr(sys, name, stream())
    say("one")
    say("two", "stderr")
    said = []
    run = train(bars[:13, :5, :5], model=Scale(), callback=lambda *_: said.append(say("three")), **settings) # the odd sizes are remarked upon
    for name in ("stdout", "stderr"): # what could not be written would be complained of when it is closed
        if stream is gone: os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, name).fileno())
    assert len(run.history["loss"]) == 200 and len(said) == 100


def test_a_bar_in_a_terminal(bars_on, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self): return True
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar(20) as (bar, hooks):
        for n in (10, 20): [hook(*report(n)) for hook in hooks]
    assert len(hooks) == 1 and "20/20" in sys.stderr.getvalue() and "\r" in sys.stderr.getvalue()
