"""Mistakes that would pass in silence: each is refused or told of in one sentence that names what is at fault; and paths mean what they say."""
import os
import warnings
from functools import partial

import numpy as np
import optax
import pytest
from flax import nnx
from networks import Dense

from unetdiff import Recipe, load, pictures, train, train_digits
from unetdiff.engine.checkpoints import differences
from unetdiff.engine.sources import collect
from unetdiff.unet import UNet

x = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
few = dict(steps=2, log_every=2, progress=False)


def dense(classes=None): return Dense(64, 16, nnx.Rngs(0), classes=classes)


@pytest.fixture(scope="module")
def grey(): return train(x, model=dense(), **few)


@pytest.fixture(scope="module")
def unet_run(): return train(x, net=dict(features=4, channel_mults=[1], attention_levels=[]), **few)


def says(error, text, call):
    with pytest.raises(error) as said: call()
    assert text in str(said.value), f"{said.value}"


@pytest.mark.parametrize("levels", [(1,), (0, 3)])
def test_levels_that_are_not_there(levels):
    says(ValueError, f"attention_levels: got {levels}, but takes levels from 0 to 0", lambda: UNet(1, 1, 8, channel_mults=(1,), attention_levels=levels, rngs=nnx.Rngs(0)))


def test_levels_by_default():
    "Attention from the third level on, where there is one."
    attend = lambda mults: [i for i in range(len(mults)) if getattr(nnx.eval_shape(lambda: UNet(1, 1, 4, channel_mults=mults, rngs=nnx.Rngs(0))), f"down{i}").attention is not None]
    assert attend((1, 2, 4, 8)) == [2, 3] and attend((1, 2)) == []


def test_lists_are_as_good_as_tuples():
    lists = Recipe(interval=[0., .6], averaging=[17., 7.], pixel_range=[-1., 1.], net=dict(features=4, channel_mults=[1, 2]))
    tuples = Recipe(interval=(0., .6), averaging=(17., 7.), pixel_range=(-1., 1.), net=dict(features=4, channel_mults=(1, 2)))
    assert lists == tuples and hash(lists) == hash(tuples)
    assert Recipe(net=(mine := dict(features=4))).net is not mine, "a recipe does not change when its dictionary does"


def test_label_without_pictures():
    run = train(x, np.repeat([0, 2], 20), model=dense(2), **few)
    says(ValueError, "label: got 1, but takes one of 0, 2, or 2 of them", lambda: run.sample(2, 1))
    again = train(x, np.repeat(2, 40), model=run, **few)
    assert again.names == [0, 2] and again.info["label_counts"] == [0, 40]
    says(ValueError, "label: got [0], of which there were no pictures in training", lambda: again.sample(2, [0, 2]))
    assert again.sample(2, 2).shape == (2, 8, 8, 1)


@pytest.mark.parametrize("given, names", [([1, 2, 3], None), ([1999, 2024, 7], [7, 1999, 2024]), (["cat", "dog", "a cat"], ["a cat", "cat", "dog"]), (["10", "9", "1"], [1, 9, 10]),
                                          (np.array(["b", "a", "c"], object), ["a", "b", "c"]), ([0, 1, 2], [0, 1, 2]), ([-1, 1, 0], [-1, 0, 1])])
def test_labels_of_any_kind(given, names, tmp_path):
    labels = np.resize(given, 40)
    run = train(x, labels, model=dense(3), **few)
    names = names or [*given]
    assert run.names == names and ("names" in run.info) == (names != [0, 1, 2])
    run.save(tmp_path)
    run = load(tmp_path, model=dense(3))
    assert run.names == names
    assert [int(run.labels_for(1, name, 0)[0]) for name in names] == [0, 1, 2]
    assert run.labels_for(len(run.held_out[1]), run.held_out[1], 0).max() < 3, "the labels held back are taken again"
    assert [ax.get_title() for ax in run.plot_sheet(1).axes] == [*map(str, names)]
    says(ValueError, "label: got 'bird', but takes one of " if names != [0, 1, 2] else "an integer from 0 to 2", lambda: run.sample(1, "bird"))
    assert train(x, labels, model=run, **few).names == names
    says(ValueError, "labels: got 5000, but takes", lambda: train(x, np.full(40, 5000), model=run, **few))


@pytest.mark.parametrize("images", [(x > .5).astype(np.uint8), x/255, (x/255).astype(np.float64)])
def test_pictures_as_good_as_black(images):
    with pytest.warns(UserWarning, match=r"images: got pixels up to 0\.0039 of 1"): collect(images, None, None)


@pytest.mark.parametrize("images", [x, (255*x).astype(np.uint8), 0*x])
def test_other_pictures_are_taken_without_a_word(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collect(images, None, None)


def test_optimizer_may_be_made_from_the_steps():
    seen = []
    def plan(steps):
        seen.append(steps)
        return optax.sgd(1e-3)
    train(x, model=dense(), optimizer=plan, **few)
    assert seen == [2]


def test_a_network_that_is_given_has_its_shape_and_type(grey, unet_run):
    for run in (grey, unet_run):
        for call in (lambda **entry: train(x, model=run, **entry, **few), lambda **entry: train_digits(1, model=run, **entry, **few)):
            says(ValueError, "net: got {'features': 16}, but takes no change where a run goes on", lambda: call(net=dict(features=16)))
            says(ValueError, "dtype: got 'bfloat16', but takes no change", lambda: call(dtype="bfloat16"))
    says(ValueError, "dtype: got 'bfloat16', but takes no change", lambda: train(x, model=dense(), dtype="bfloat16", **few))


def test_own_network_with_a_preset():
    assert train_digits(1, preset="tutorial", model=dense(), gradient_penalty=0., **few).recipe.schedule == "clipped_cosine"


class NoLabels(nnx.Module):
    "Takes pictures and times alone."
    def __call__(self, x, t): return x


def test_network_that_cannot_take_the_pictures(unet_run):
    says(ValueError, "model: got a network that fails on pictures of shape [8, 8, 3]", lambda: train(np.stack([x]*3, -1), model=unet_run, **few))
    says(ValueError, "times and labels", lambda: train(x, np.zeros(40, int), model=NoLabels(), **few))


def test_likelihood_names_what_is_wrong(grey):
    says(ValueError, "levels: got 17, and pixels between", grey.bits_per_dim)
    says(ValueError, "images: got 1 picture (None stands for those held back)", train(x[:6], model=dense(), **few).bits_per_dim)


def test_run_of_a_newer_version(grey, tmp_path):
    grey.save(tmp_path/"run")
    file = tmp_path/"run"/"run.json"
    file.write_text(file.read_text().replace('"unetdiff": "0.1.0"', '"unetdiff": "9.0"').replace('"recipe": {', '"recipe": {"wavelets": 3, '))
    says(ValueError, "a run of unetdiff 9.0 with wavelets, but takes runs of versions up to this one", lambda: load(tmp_path/"run", model=dense()))


def test_differences_are_told_by_name():
    there, here = dict(recipe=dict(seed=0, net=dict(features=8)), info=dict(shape=[8, 8])), dict(recipe=dict(seed=1, net=dict(features=8, heads=2)), info=dict(shape=[8, 8]))
    assert differences(there, here) == ["seed is 0 there and 1 here", "heads is None there and 2 here"]
    assert differences(there, there) == []


def test_home_folder(grey, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    grey.save("~/saved")
    train(x, model=dense(), out="~/trained", **few)
    assert (tmp_path/"saved"/"run.json").exists() and (tmp_path/"trained"/"run.json").exists() and not (tmp_path/"~").exists()
    assert len(load("~/trained", model=dense()).history["loss"]) == 2
    says(ValueError, f"{tmp_path/'photos'}", lambda: pictures("~/photos"))


@pytest.mark.parametrize("name", ["a run", "прогон", "走"])
def test_relative_folder_stays_where_it_was(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"elsewhere").mkdir()
    train(x, model=dense(), out=name, callback=lambda *_: os.chdir("elsewhere"), **few)
    assert (tmp_path/name/"run.json").exists() and not [*(tmp_path/"elsewhere").iterdir()]


def test_weights_of_something_else_stay(grey, tmp_path):
    (tmp_path/"model.safetensors").write_bytes(b"precious")
    for call in (lambda: grey.save(tmp_path), *(partial(train, x, model=dense(), out=tmp_path, resume=resume, **few) for resume in (False, True))): says(ValueError, "which holds model.safetensors of something else", call)
    assert (tmp_path/"model.safetensors").read_bytes() == b"precious"
