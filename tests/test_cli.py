"""The command: what it trains, leaves, goes on with and refuses."""
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from networks import dense_for

import unetdiff
from unetdiff.cli import main


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


def test_folder_holds_pictures_and_model(trained):
    assert sorted(p.name for p in trained.glob("[!.]*")) == ["held_out.safetensors", "loss.png", "model.safetensors", "run.json", "samples.png"]


def test_finished_run_is_only_drawn_again(trained):
    before = unetdiff.load(trained)
    (trained/"samples.png").unlink()
    main(digit=1, steps=20, out=str(trained), resume=True, uncached=True)
    assert np.array_equal(unetdiff.load(trained).history["loss"], before.history["loss"])
    assert (trained/"samples.png").exists()


def test_another_configuration_is_refused_and_the_run_stays(trained):
    before = unetdiff.load(trained).history["loss"]
    with pytest.raises(SystemExit, match=r"which holds another run \(seed is 0 there and 1 here\)"):
        main(digit=1, steps=20, seed=1, out=str(trained), resume=True, uncached=True)
    assert np.array_equal(unetdiff.load(trained).history["loss"], before)


@pytest.mark.parametrize("options, words", [
    (dict(digit=12), "digit: got 12"), (dict(digit=-1), "digit: got -1"), (dict(steps=0), "steps: got 0"), (dict(preset="quick"), "preset: got 'quick'"),
    (dict(preset="tutorial"), "digit: got None"), (dict(dtype="float16"), "dtype: got 'float16'"), (dict(seed=-1), "seed: got -1"), (dict(out=""), "out: got ''")])
def test_impossible_requests_end_in_one_sentence(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end: main(**dict(out="new", uncached=True) | options)
    said = end.value.code  # a text: exit code 1
    assert isinstance(said, str) and said.startswith("unetdiff: ") and words in said and "\n" not in said, said
    assert not any(tmp_path.iterdir()), "a refused request has written something"


def test_folder_that_holds_a_run_is_refused(trained):
    with pytest.raises(SystemExit) as end: main(out=str(trained), uncached=True)
    assert "already holds a run" in end.value.code


def test_importing_the_package_is_light():
    "Nothing heavy is imported before a public name is used."
    light = "import sys, unetdiff; dir(unetdiff); print(sorted({'jax', 'flax', 'matplotlib', 'sklearn', 'optax', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True).stdout.strip() == "[]"
