"""What `save` writes, `load` reads, or says in one sentence why not: recipes drawn from all that a `Recipe` takes, and networks of many kinds."""
import json
import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from networks import Dense, Moody, Scale
from properties import same_cases

from unetdiff import Recipe, load, samplers, schedules, train, training
from unetdiff.diffusion import flow_matching, from_betas, lognormal_times, log_linear, loss, predictions, time_samplers, weightings
from unetdiff.engine.checkpoints import is_custom, network_arrays
from unetdiff.sampling import churned, ddim, dynamic, ratio_times, spacings, thresholdings
from unetdiff.training import adamw, optimizers, replace

# --- what is drawn: of each entry the names, and what people give in their place

class Rate:
    "A function of the number of steps that is an object."
    def __call__(self, steps): return optax.sgd(1/steps)


one = lambda *values: st.sampled_from(values)
entries = dict(
    net=one({}, dict(features=np.int64(8)), dict(channel_mults=[1, np.int32(2)], attention_levels=[]), dict(time_emb_dim=16, heads=np.uint8(2), plain_attention=np.bool_(True), attention_levels=None)),
    schedule=one(*schedules, np.str_("edm"), log_linear(.01, 20.), flow_matching(.01), from_betas(np.linspace(.01, .5, 7))),
    prediction=one(*sorted(set(predictions) - {"eps"}), lambda alpha, sigma, s: (-1., 1.)), # "eps" is refused on some schedules
    weighting=one(*weightings, lambda log_snr, g2, s: jnp.ones_like(log_snr)),
    time_sampler=one(*time_samplers, partial(lognormal_times, mean=0., std=1.), jax.jit(lambda u, progress, schedule: u, static_argnames="schedule")),
    loss=one(*["denoising"]*4, lambda process, model, x_0, t, eps, *given: loss(process, model, x_0, t, eps, *given)), # refused beside a gradient penalty
    dtype=one("float32", "bfloat16", np.str_("float32")),
    shift=one(1, 2.5, np.float32(1.5)),
    sigma_data=one(.75, 1, np.float32(.3), np.float16(.5)),
    pixel_range=one((-1., 1.), [0, 1], (np.float32(-.1), np.int64(2))),
    gradient_penalty=one(0., 0, .02, np.float32(.02)),
    label_dropout=one(.1, 0, np.float64(.5)),
    flips=one(False, True, np.bool_(True)),
    augment=one(0, .3, np.float32(.5)), # refused beside a network of one's own
    optimizer=one(*optimizers, optax.adam(1e-3), optax.chain(optax.clip(1.), optax.sgd(1e-2)), partial(adamw, lr=1e-3), Rate(), lambda steps: optax.sgd(1/steps)),
    lr=one(None, None, 1e-3, np.float32(.01)), # refused beside an optimizer of one's own
    steps=one(1, 2, np.int64(2), np.uint8(1)),
    batch_size=one(4, np.int32(2), None),
    grad_accum_steps=one(1, 2, np.int8(2)),
    averaging=one(None, 17., 3, np.float16(2), [17., 7.], (3, np.float32(.1)), [np.float64(5.)], (0, 5, 5.5)),
    test_size=one(.25, np.float32(.3)),
    log_every=one(1, 2, 5, np.int64(1)),
    sampler=one(*samplers, partial(ddim, eta=.5), lambda denoise, x, t, s, previous, z: ddim(denoise, x, t, s, previous, z)),
    sample_steps=one(1, 3, np.int16(2)),
    spacing=one(*spacings, churned("karras"), partial(ratio_times, low=.5), lambda schedule, n: np.linspace(1, .1, n)),
    guidance=one(1, 1.3, np.float32(0), -2),
    interval=one((0., .6), [0, np.inf], (np.float32(.1), np.float64(5)), (0, float("inf"))),
    thresholding=one(*thresholdings, partial(dynamic, share=.9), lambda x, lo, hi: jnp.tanh(x)),
)
assert set(entries) == set(vars(Recipe())), "all entries of a recipe are drawn"
recipes = st.fixed_dictionaries({}, optional=entries)


class Listed(nnx.Module):
    "Its parameters stand in a list, and in a dictionary with keys that are no names."
    def __init__(self):
        self.list = nnx.List([nnx.Param(jnp.float32(i)) for i in range(11)])
        self.table = nnx.Dict({"a.b": nnx.Param(jnp.bfloat16(1)), "c/d": nnx.Param(jnp.float32(2)), "3": nnx.Param(jnp.float16(3))})
    def __call__(self, x, t, label=None): return sum(p[...] for p in [*self.list, *self.table.values()]).astype(jnp.float32)/99*x


class Unlabelled(Scale):
    "The least network, with labels that it does not use."
    def __call__(self, x, t, label=None): return super().__call__(x, t)


networks = one(None, None, lambda: Dense(16, 8, nnx.Rngs(0), classes=3), Listed, Moody, Unlabelled)
images = np.random.default_rng(0).random((16, 4, 4, 1), np.float32)
forms = [images, np.asfortranarray(images), images.transpose(2, 1, 0, 3)[:, ::-1].transpose(2, 1, 0, 3), (images*255).astype(np.uint8)]
labels = [None, np.arange(16) % 3, [0, 2]*8]

# --- the property

def same(a, b) -> bool:
    "Are two trees of arrays equal to the bit, in type and shape?"
    (a, form), (b, other) = map(jax.tree.flatten, (a, b))
    return form == other and all(np.asarray(x).dtype == np.asarray(y).dtype and np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f") for x, y in zip(a, b))


def refused(call, what):
    "The sentence of a refusal, or None."
    try: call()
    except (ValueError, TypeError) as error:
        assert re.fullmatch(r"[\w, ]+: got .+, but takes .+", str(error)), f"{what} should be refused in one sentence, and not with {error!r}"
        return str(error)


def saved_and_loaded(run, folder, make, sample=True):
    "A run comes back from a folder as it was; without what is the user's own it is refused, and what is missing is named."
    own = {k: v for k, v in vars(run.recipe).items() if is_custom(v)}
    run.save(folder)
    model = {} if make is None else dict(model=make())
    needed = [k for k in own if k != "optimizer"] + [*model]
    said = refused(lambda: load(folder), f"a run with own {needed}")
    assert said is None if not needed else said and f"a run with {needed} of your own" in said and "load(path, name=value)" in said, f"own {needed}: {said}"
    back = load(folder, **own, **model)
    assert back.recipe == run.recipe, f"another recipe: {[(k, v, vars(back.recipe)[k]) for k, v in vars(run.recipe).items() if v != vars(back.recipe)[k]]}"
    assert load(folder, **{k: v for k, v in own.items() if k in needed}, **model).recipe.optimizer == (Recipe().optimizer if "optimizer" in own else run.recipe.optimizer)
    for name in ("history", "held_out", "snapshots"): assert same(getattr(run, name), getattr(back, name)), f"another {name}"
    assert same(network_arrays(run.model), network_arrays(back.model)), "another network"
    assert json.dumps(run.info, default=np.generic.item) == json.dumps(back.info), f"{run.info} became {back.info}"
    back.save(folder/"again")
    assert all((folder/"again"/p.name).read_bytes() == p.read_bytes() for p in folder.glob("*.*")), "saved again, it should be the same files"
    if sample:
        assert same(run.sample(2, seed=1), back.sample(2, seed=1)), "other samples"
        if run.snapshots: assert same(network_arrays(run.averaged(.15).model), network_arrays(back.averaged(.15).model)), "another average"


def trained(recipe, make=None, x=images, y=None, seed=0):
    "A training of a step or two; None where this recipe is refused."
    model = None if make is None else make()
    try: return train(x, y, model=model, seed=seed, progress=False, **dict(steps=2, log_every=1, batch_size=4, test_size=.25, sample_steps=2) | recipe)
    except ValueError as error: assert re.fullmatch(r"\w+: got .+, but takes .+", str(error)), f"{recipe}: {error!r}"


def holds(cases, property, **drawn):
    "So many cases of a property, always the same."
    @same_cases(cases)
    @given(**drawn)
    def test(**case):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            property(**case)
    test()


def whole_trainings(cases, folder):
    "Trainings with recipes, networks and pictures of all kinds, saved and loaded, and sampled; how many there were."
    done = []
    def check(recipe, make, x, y, seed):
        if make is None: recipe = {k: v for k, v in recipe.items() if k != "dtype"} # the network is dense, and in float32
        run = trained(recipe, make, forms[x], labels[y], seed)
        if run is None: return
        done.append(run)
        saved_and_loaded(run, folder/str(len(done)), make, np.isfinite(run.history["loss"]).all())
    holds(cases, check, recipe=recipes, make=networks, x=st.integers(0, 3), y=st.integers(0, 2), seed=one(0, np.int64(7), 2**32 - 1))
    return len(done)


def small_dense_for(recipe, channels, classes, condition=None):
    "In the place of `unetdiff.training.unet_for`: how to make a dense network for pictures of 4 x 4 pixels."
    return partial(Dense, 16*channels, 8, classes=classes)


@pytest.fixture(autouse=True)
def dense(monkeypatch): monkeypatch.setattr(training, "unet_for", small_dense_for)


def test_all_recipes_come_back(tmp_path):
    "One short training, and its run with any recipe."
    run, count = trained({}), [0]
    def check(recipe):
        try: other = replace(run, recipe=Recipe(**recipe))
        except ValueError: return # it does not fit together
        count[0] += 1
        saved_and_loaded(other, tmp_path/str(count[0]), None, sample=False)
    holds(60, check, recipe=recipes)
    assert count[0] > 30


@pytest.mark.parametrize("make", [Listed, Moody])
def test_other_networks_come_back_and_sample(tmp_path, make): saved_and_loaded(trained({}, make), tmp_path, make)


def test_trainings_come_back(tmp_path): assert whole_trainings(3, tmp_path) > 1


class Odd(Scale):
    "The least network, and an array that no file of weights can hold."
    def __init__(self, array):
        super().__init__()
        self.array = nnx.Variable(array)


@pytest.mark.parametrize("array", [jax.random.key(0), jnp.zeros(2, jnp.float8_e4m3fn), jnp.zeros(2, jnp.int4)], ids=str)
def test_networks_that_cannot_be_saved_are_refused_before_they_are_trained(array):
    said = refused(lambda: train(images, model=Odd(array), steps=1), "a network that cannot be saved")
    assert said and said.startswith(f"model: got a network that cannot be saved (array is {array.dtype})")


@pytest.mark.parametrize("net", [dict(features=len), dict(heads=object()), dict(channel_mults=np.ones(2)), dict(plain_attention=1)], ids=lambda net: [*net][0])
def test_arguments_of_a_network_are_checked_with_the_recipe(net):
    assert refused(lambda: Recipe(net=net), net).startswith(f"{[*net][0]}: got ")


def test_own_names_of_another_program_are_told(tmp_path, monkeypatch):
    "A name that somebody had added to a table is no name elsewhere, but can be given."
    with monkeypatch.context() as there:
        there.setitem(schedules, "mine", schedules["edm"])
        replace(trained({}), recipe=Recipe(schedule="mine")).save(tmp_path/"run")
    assert refused(lambda: load(tmp_path/"run"), "an unknown name").startswith("schedule: got 'mine', but takes one of 'linear', ")
    assert load(tmp_path/"run", schedule=schedules["edm"]).recipe.schedule is schedules["edm"]
