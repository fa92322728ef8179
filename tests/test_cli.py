"""The command: what it trains, leaves, goes on with and refuses, and what it says where nobody listens."""
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
from networks import dense_for
from PIL import Image

import unetdiff
from unetdiff import cli
from unetdiff.cli import main, sample, score
from unetdiff.viz import image_grid


@pytest.fixture(scope="module", autouse=True)
def small(tiny_settings):
    "The default preset with a dense network and few steps, which is quick to compile."
    settings = {name: v for name, v in tiny_settings.items() if name != "progress"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(unetdiff.presets, "default", replace(unetdiff.presets["default"], **settings))
        patch.setattr("unetdiff.training.unet_for", dense_for)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small):
    "A folder in which the command has trained twenty steps."
    out = tmp_path_factory.mktemp("command")/"ones"
    main(digit=1, steps=20, out=str(out), uncached=True)
    return out


@pytest.fixture(scope="module")
def ten(tmp_path_factory, small):
    "The same of all ten digits."
    out = str(tmp_path_factory.mktemp("command")/"ten")
    main(steps=20, out=out, uncached=True)
    return out


def test_folder_holds_pictures_and_model(trained):
    assert sorted(p.name for p in trained.glob("[!.]*")) == ["checkpoints", "held_out.safetensors", "loss.png", "model.safetensors", "run.json", "samples.png"]


def test_finished_run_is_only_drawn_again(trained):
    before = unetdiff.load(trained)
    (trained/"samples.png").unlink()
    main(digit=1, steps=20, out=str(trained), resume=True, uncached=True)
    assert np.array_equal(unetdiff.load(trained).history["loss"], before.history["loss"])
    assert (trained/"samples.png").exists()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["samples.png", "loss.png", "weights.safetensors"])
def test_files_of_others_stay(tmp_path, name, resume):
    (tmp_path/name).write_bytes(b"precious")
    with pytest.raises(SystemExit) as end: main(out=str(tmp_path), resume=resume, uncached=True)
    assert f"which holds {name} of something else" in end.value.code
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(name, b"precious")]


def test_home_folder_of_the_command(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    main(digit=1, steps=20, out="~/ones", uncached=True)
    assert (tmp_path/"ones"/"samples.png").exists() and not (tmp_path/"~").exists()


def test_another_configuration_is_refused_and_the_run_stays(trained):
    before = unetdiff.load(trained).history["loss"]
    with pytest.raises(SystemExit, match=r"which holds another run \(seed is 0 there and 1 here\)"):
        main(digit=1, steps=20, seed=1, out=str(trained), resume=True, uncached=True)
    assert np.array_equal(unetdiff.load(trained).history["loss"], before)


def test_more_samples_of_a_run(tmp_path, ten, capsys):
    sample(ten, label="3", n=4, cols=2, steps=2, out=str(tmp_path/"threes.png"))
    want = image_grid(unetdiff.load(ten).sample(4, 3, steps=2), 2)
    assert np.array_equal(np.asarray(Image.open(tmp_path/"threes.png")), np.asarray(want))
    assert "4 pictures" in capsys.readouterr().out


def test_scores_of_a_run(ten, capsys):
    score(ten, n=64)
    assert capsys.readouterr().out.strip() == str(unetdiff.load(ten).evaluate(64)).strip()


@pytest.mark.parametrize("options, words", [(dict(run="none"), "none', which holds no run"), (dict(label="cat"), "label: got 'cat'"), (dict(n=0), "n: got 0"), (dict(out="."), "out: got '.'"),
                                            (dict(steps=0), "steps: got 0"), (dict(seed=-1), "seed: got -1"), (dict(cols=0), "cols: got 0")])
def test_samples_that_cannot_be(tmp_path, monkeypatch, ten, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=re.escape(words)): sample(**dict(run=ten, n=2) | options)
    assert not any(tmp_path.iterdir()), "a refused request has written something"


def test_scores_with_other_pictures_are_refused(ten, tmp_path):
    for i in range(8): Image.new("L", (8, 8), i).save(tmp_path/f"{i}.png")
    with pytest.raises(SystemExit, match="unetdiff: run: got .*one that was trained on these pictures"): score(ten, str(tmp_path), n=8)


@pytest.mark.parametrize("words, name, given", [("--steps 3", "main", dict(steps=3)), ("sample run --label 3 -n 5", "sample", dict(run="run", label="3", n=5)), ("score run --n 7", "score", dict(run="run", n=7))])
def test_words_on_the_command_line(monkeypatch, words, name, given):
    called = {}
    f = wraps(getattr(cli, name))(lambda **all_of_it: called.update(all_of_it))
    monkeypatch.setattr(cli, name, f)
    monkeypatch.setattr(sys, "argv", ["unetdiff", *words.split()])
    cli.command()
    assert called.items() >= given.items()


@pytest.mark.parametrize("options, words", [
    (dict(digit=12), "digit: got 12"), (dict(digit=-1), "digit: got -1"), (dict(steps=0), "steps: got 0"), (dict(preset="quick"), "preset: got 'quick'"),
    (dict(preset="tutorial"), "digit: got None"), (dict(dtype="float16"), "dtype: got 'float16'"), (dict(seed=-1), "seed: got -1"), (dict(out=""), "out: got ''")])
def test_impossible_requests_end_in_one_sentence(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end: main(**dict(out="new", uncached=True) | options)
    said = end.value.code  # a text: exit code 1
    assert isinstance(said, str) and said.startswith("unetdiff: ") and words in said and "\n" not in said, said
    assert not any(tmp_path.iterdir()), "a refused request has written something"
    assert capsys.readouterr().out == "", "it said that it trains before it refused to"


def test_folder_that_holds_a_run_is_refused(trained):
    with pytest.raises(SystemExit) as end: main(out=str(trained), uncached=True)
    assert "already holds a run" in end.value.code


# runs the command as `small` does here; %s is what is to happen before
as_command = """import os, signal, sys
sys.argv = ["unetdiff", "--steps", "20", "--out", "run"]
%s
from unetdiff.__main__ import start
start()"""
shrunk = """import unetdiff, unetdiff.training
from dataclasses import replace
from networks import dense_for
unetdiff.presets["default"] = replace(unetdiff.presets["default"], log_every=10, batch_size=8)
unetdiff.training.unet_for = dense_for"""


def command(folder, redirection, before=shrunk):
    "Exit code, output and errors of the command, run by a shell in that folder."
    env = os.environ | {"TQDM_DISABLE": "", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])}
    python = shlex.join([sys.executable, "-W", "ignore", "-c", as_command % before])
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {python} {redirection}"], capture_output=True, text=True, cwd=folder, env=env)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("redirection", ["2>&-", "<&- >&- 2>&-", "2>&1 | head -1"])
def test_streams_that_nobody_reads_do_not_disturb(tmp_path, redirection):
    code, _, errors = command(tmp_path, redirection)
    assert (code, errors) == (0, ""), f"exit code {code}: {errors}"
    assert (tmp_path/"run"/"samples.png").exists() and len(unetdiff.load(tmp_path/"run").history["loss"]) == 20


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_output_in_a_file_is_lines(tmp_path):
    code, said, errors = command(tmp_path, "2>&1")
    assert code == 0 and "\r" not in said and errors == ""
    assert [line.split()[0] for line in said.splitlines()] == ["pictures:", "network:", "noise:", "training:", "samples:", "training:", "training:", "Trained", "In"], said


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("module", ["fastcore", "jax"])
def test_ctrl_c_while_it_starts_is_one_line(tmp_path, module):
    press = f"""class Press:
    def find_spec(name, *_):
        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press)"""
    code, said, errors = command(tmp_path, "", press)
    assert (code, said, errors) == (130, "", "unetdiff: ended by Ctrl-C\n")


def test_importing_the_package_is_light():
    "Nothing heavy is imported before a public name is used."
    light = "import sys, unetdiff; dir(unetdiff); print(sorted({'jax', 'flax', 'matplotlib', 'sklearn', 'optax', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True).stdout.strip() == "[]"
