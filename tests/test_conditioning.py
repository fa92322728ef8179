"""A network may be told a vector or a picture of each picture, with or without labels: everywhere that labels go, and refused in one sentence where it does not fit."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import Dense, Scale

from unetdiff import Recipe, UNet, load, monitor, pictures, train
from unetdiff.data import hide, to_range
from unetdiff.diffusion import lognormal_times
from unetdiff.engine.arguments import as_condition, condition_rows
from unetdiff.engine.checkpoints import network_arrays
from unetdiff.engine.devices import Layout, mesh_for
from unetdiff.sampling import NoiseLevel, guided_denoiser
from unetdiff.training import TrainState, adamw, train_steps
from unetdiff.unet import init

pooled = lambda x: np.asarray(x).reshape(-1, 4, 2, 4, 2, 1).mean((2, 4)) # 8 x 8 to 4 x 4
ink = lambda x: np.stack([np.asarray(x).mean((1, 2, 3)), np.asarray(x)[:, :4].mean((1, 2, 3))], 1) # of all, of the upper half
kinds = dict(vector=ink, picture=pooled)
shapes = dict(vector=(2,), picture=(4, 4, 1))
few = dict(steps=20, log_every=10, batch_size=8, progress=False)
dense = lambda shape, classes=None: Dense(64, 32, nnx.Rngs(0), classes=classes, condition=shape)


def same_weights(a, b):
    "Are the weights of two runs the same, to the bit?"
    a, b = (network_arrays(r.model) for r in (a, b))
    return all((np.asarray(a[k]) == np.asarray(b[k])).all() for k in a)


@pytest.fixture(scope="module")
def digits200(digit_images, digit_labels): return digit_images[:200], digit_labels[:200]


def trained(digits200, kind, with_labels, **kwargs):
    "A short training on 200 digits with such a condition."
    x, y = digits200
    return train(x, y if with_labels else None, condition=kinds[kind](x), model=dense(shapes[kind], 10 if with_labels else None), **few | kwargs)


@pytest.fixture(scope="module", params=[(kind, labels) for kind in kinds for labels in (False, True)], ids=lambda p: p[0] + " and labels"*p[1])
def case(request, digits200):
    "Kind of condition, with labels?, a run."
    return *request.param, trained(digits200, *request.param)


def test_a_run_knows_what_it_was_told(case):
    kind, with_labels, run = case
    images, labels, condition = run.held_out
    assert run.info["condition"]["shape"] == list(shapes[kind]) and (labels is not None) == with_labels
    np.testing.assert_allclose(condition, kinds[kind](images), atol=1e-6, err_msg="held-out pictures should keep their own condition, as it was given")


def test_one_for_all_or_one_for_each(case):
    kind, with_labels, run = case
    label, c = 3 if with_labels else None, kinds[kind](run.held_out[0])
    each = np.asarray(run.sample(4, label, condition=c[:4]))
    assert each.shape == (4, 8, 8, 1)
    np.testing.assert_array_equal(run.sample(4, label, condition=c[0]), run.sample(4, label, condition=np.stack([c[0]]*4)))
    assert np.abs(each - run.sample(4, label, condition=c[4:8])).max() > 1e-3, "the condition should change the samples"
    np.testing.assert_array_equal(run.sample(2, label, condition=c[:2]), each[:2])


def test_samples_look_at_the_condition_as_training_did(case):
    "Guidance off is the plain network with pictures in its range; 0 is the network that is told nothing."
    kind, with_labels, run = case
    y, c = (np.arange(4) % 10 if with_labels else None), kinds[kind](run.held_out[0][:4])
    plan = run.plan()
    assert plan.guidance == 1 and run.evaluations() == 10, "with a condition, guidance is off unless it is asked for"
    first = NoiseLevel(*(v[0] for v in plan.at))
    seen = to_range(c) if kind == "picture" else c
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 1), np.float32)
    given, hidden = run._given_for(4, y, c, 0), (run.classes, 0.)
    np.testing.assert_allclose(given[1], seen, atol=1e-6)
    denoiser = lambda w, given: np.asarray(guided_denoiser(run.recipe.process, run.model, hidden, given, w)(x, first))
    nothing = (None if y is None else jnp.full(4, 10), jnp.zeros_like(given[1]))
    np.testing.assert_allclose(denoiser(0., given), denoiser(1., nothing), atol=1e-5)
    np.testing.assert_allclose(denoiser(2., given), 2*denoiser(1., given) - denoiser(1., nothing), atol=1e-4)
    assert run.evaluations(guidance=2., interval=(0, np.inf)) == 20


def test_saved_and_loaded(case, tmp_path):
    kind, with_labels, run = case
    run.save(tmp_path/"run")
    again = load(tmp_path/"run", model=dense(shapes[kind], 10 if with_labels else None))
    for a, b in zip(run.held_out, again.held_out, strict=True):
        assert a is b is None or np.array_equal(a, b)
    told = dict(condition=run.held_out[2][0], label=3 if with_labels else None)
    np.testing.assert_array_equal(run.sample(3, **told), again.sample(3, **told))


def test_everything_that_draws(case, tmp_path):
    kind, with_labels, run = case
    run.plot_sheet(rows=2), run.plot_samples(), run.plot_forward_and_reverse(frames=3)
    assert run.scrub(labels=[3] if with_labels else None, samplers=("ddim",), steps=2).data
    run.animate(2, steps=2), run.explore(2)
    monitor(tmp_path, n=3)(20, run.metrics, run)
    assert (tmp_path/"samples.png").stat().st_size > 100


def test_numbers_of_a_run(case, digits200):
    kind, with_labels, run = case
    x, y = digits200
    bits = run.bits_per_dim(stops=4)
    same = run.bits_per_dim(*run.held_out[:2], condition=run.held_out[2], stops=4)
    assert bits == same and np.isfinite(bits["bound"])
    told = dict(images=x, labels=y if with_labels else None)
    assert np.isfinite(run.evaluate(64, **told, condition=kinds[kind](x))["frechet"])
    with pytest.raises(ValueError, match="^condition: got None, but takes what the run was trained with"): run.evaluate(64, **told)
    with pytest.raises(ValueError, match="^condition: got .*, but takes what the run was trained with"): run.evaluate(64, **told, condition=kinds[kind](x)[::-1])


@pytest.mark.parametrize("kind", kinds)
def test_resumed_to_the_bit(kind, digits200, tmp_path):
    whole = trained(digits200, kind, True)
    stopped = trained(digits200, kind, True, out=tmp_path/"a", callback=lambda *_: True)
    assert len(stopped.history["loss"]) == 10
    went_on = trained(digits200, kind, True, out=tmp_path/"a", resume=True)
    assert same_weights(went_on, whole), "a training with a condition should go on to the same bits"
    x, y = digits200
    with pytest.raises(ValueError, match="holds another run .*data is .* there"):
        train(x, y, condition=kinds[kind](x[::-1]), model=dense(shapes[kind], 10), out=tmp_path/"a", resume=True, **few)
    with pytest.raises(ValueError, match="holds another run .*condition is .* there and None here"): train(x, y, model=dense(None, 10), out=tmp_path/"a", resume=True, **few)


def test_trained_further(digits200):
    x, y = digits200
    run = trained(digits200, "vector", False)
    assert len(train(x, condition=ink(x), model=run, **few).history["loss"]) == 20
    with pytest.raises(ValueError, match=r"^condition: got shape None, but takes that of the run that goes on: \(2,\)"): train(x, model=run, **few)


@pytest.mark.parametrize("kind", kinds)
def test_streamed(kind, digits200):
    "Pictures are read while training, their condition lies in memory: each keeps its own."
    pytest.importorskip("grain")
    x, y = digits200
    run = train(pictures([*x]), y, condition=kinds[kind](x), stream=True, model=dense(shapes[kind], 10), **few)
    assert run.info["streamed"] and np.isfinite(run.history["loss"]).all()
    np.testing.assert_allclose(run.held_out[2], kinds[kind](run.held_out[0]), atol=1e-6)


def test_streamed_batches_keep_rows_together(digits200):
    pytest.importorskip("grain")
    from unetdiff.engine.sources import data_feed
    x, _ = digits200
    seen, small = np.arange(200), pooled(x)
    _, feed = data_feed(pictures([*x]), (seen, small), 8, 4, 0, 0, mesh_for(8))
    images, (number, condition) = next(feed)
    np.testing.assert_allclose(np.asarray(images), x[np.asarray(number)], atol=1e-6)
    np.testing.assert_allclose(np.asarray(condition), small[np.asarray(number)], atol=1e-6)


@pytest.mark.parametrize("fsdp, parts", [(False, 1), (True, 1), (False, 2)])
def test_devices_agree(digits200, fsdp, parts):
    "Also where a batch is worked through in parts."
    x, y = digits200
    def losses(devices, fsdp, parts):
        recipe = Recipe(batch_size=8, log_every=10, grad_accum_steps=parts)
        graph, params, rest = nnx.split(dense((4, 4, 1), 10), nnx.Param, ...)
        layout = Layout(jax.sharding.Mesh(np.array(jax.devices()[:devices]), "batch"), fsdp, parts)
        optimizer = adamw(100, flat=not fsdp)
        state = layout.start(lambda params, rest: TrainState(params, (params,), optimizer.init(params), rest), params, rest)
        data = jax.device_put((to_range(x), (y, to_range(pooled(x))), jax.random.key(0)), layout.everywhere)
        return np.asarray(train_steps(state, 0, 10, *data, graph=graph, recipe=recipe, optimizer=optimizer, hidden=(10, 0.), layout=layout)[1])
    np.testing.assert_allclose(losses(mesh_for(8).size, fsdp, parts), losses(1, False, 1), rtol=1e-5)


def test_hidden_together():
    y, c = jnp.arange(1000) % 10, jnp.ones((1000, 2, 2, 1))
    hidden_y, hidden_c = hide(jax.random.key(0), (y, c), .3, (10, 0.))
    is_hidden = np.asarray(hidden_y) == 10
    assert .25 < is_hidden.mean() < .35
    np.testing.assert_array_equal(np.asarray(hidden_c).mean((1, 2, 3)) == 0, is_hidden, "label and condition should be hidden of the same pictures")
    np.testing.assert_array_equal(hidden_y, hide(jax.random.key(0), y, .3, 10), "the same labels as without a condition")


@pytest.mark.parametrize("shape", [(8,), (2, 4, 1)])
def test_a_network_learns_to_look(shape, digit_images):
    "In noise that hides which of eight pictures it is, the same network, told and not told: the loss is clearly lower."
    which = np.arange(400) % 8
    deep = dict(prediction="x0", time_sampler=partial(lognormal_times, mean=3., std=.1))
    settings = dict(steps=300, log_every=300, batch_size=32, label_dropout=0., progress=False, **deep)
    told, blind = (train(digit_images[which], condition=factor*np.eye(8)[which].reshape(-1, *shape), model=dense(shape), **settings).history["test_loss"][-1] for factor in (1, 0))
    assert told < .5*blind, f"{told} where the network is told which picture it is, {blind} where it is not"


# --- the U-Net


tiny_unet = partial(UNet, 1, 1, 8, time_emb_dim=8, channel_mults=(1,), attention_levels=())


@pytest.mark.parametrize("shape", [(3,), (4, 4, 1), (5, 3, 2), (16, 16, 3)])
@pytest.mark.parametrize("classes", [None, 10])
def test_unet_is_told(shape, classes):
    net = init(partial(tiny_unet, classes=classes, condition=shape))
    rng = np.random.default_rng(0)
    x, t, c = rng.standard_normal((2, 8, 8, 1), np.float32), np.zeros(2, np.float32), rng.standard_normal((2, *shape), np.float32)
    label = [] if classes is None else [np.array([1, 2])]
    out = np.asarray(net(x, t, *label, c))
    assert out.shape == x.shape
    assert np.abs(out - net(x, t, *label, 0*c)).max() > 1e-4, "the network should look at the condition"
    with pytest.raises(ValueError, match="^given: got "): net(x, t, *label)


def test_unet_of_zeros_is_told_nothing():
    "A vector of zeros leaves the network as it would be without a condition."
    net = init(partial(tiny_unet, condition=(3,)))
    plain = init(tiny_unet)
    nnx.update(plain, nnx.State({k: v for k, v in nnx.state(net, nnx.Param).items() if k != "vector"}))
    x, t = np.random.default_rng(0).standard_normal((2, 8, 8, 1), np.float32), np.zeros(2, np.float32)
    np.testing.assert_array_equal(net(x, t, np.zeros((2, 3), np.float32)), plain(x, t))


def test_unet_trained_and_loaded(digits200, tmp_path):
    "The recipe's own network learns of the condition's shape, and is rebuilt with it."
    x, y = digits200
    run = train(x, y, condition=pooled(x), net=dict(features=8, channel_mults=(1,), attention_levels=(), time_emb_dim=8), **few | dict(steps=2, log_every=2), out=tmp_path/"a")
    assert run.model.condition == (4, 4, 1)
    np.testing.assert_array_equal(load(tmp_path/"a").sample(2, 3, condition=pooled(x)[:2]), run.sample(2, 3, condition=pooled(x)[:2]))
    with pytest.raises(TypeError, match="^condition: got an unknown argument"): Recipe(net=dict(condition=(3,)))


# --- what is refused


nan = lambda c: np.where(np.arange(len(c)).reshape(-1, *(1,)*(c.ndim - 1)) == 1, np.nan, c)
wrong_in_training = {
    "too few": (lambda x: ink(x)[:-1], "condition: got 199 of them, but takes one for each of the 200 pictures"),
    "not a number": (lambda x: nan(ink(x)), "condition: got NaN or infinite numbers"),
    "a pixel that is not a number": (lambda x: nan(pooled(x)), "condition: got NaN or infinite pixels"),
    "pixels above 1": (lambda x: 2*pooled(x) + 1, "condition: got float pixels from 1 to 3, but takes float pixels in"),
    "words": (lambda x: ["a"]*200, "condition: got "),
    "too large": (lambda x: 1e300*np.ones((200, 2)), "condition: got NaN or infinite numbers"),
    "five axes": (lambda x: np.zeros((200, 1, 1, 1, 1)), "condition: got shape"),
    "a single number": (lambda x: 3., "condition: got shape"),
}


@pytest.mark.parametrize("name", wrong_in_training)
def test_refused_in_training(name, digits200):
    make, sentence = wrong_in_training[name]
    with pytest.raises(ValueError) as error: train(digits200[0], condition=make(digits200[0]), **few)
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value), error.value


@pytest.mark.parametrize("network", [Scale(), dense((3,)), dense(None, 10)], ids=["takes none", "another shape", "labels instead"])
def test_a_network_that_cannot_be_told_is_refused(network, digits200):
    with pytest.raises(ValueError, match=r"^model: got a network that fails on pictures of shape \[8, 8, 1\], times and conditions of shape \(2,\) "):
        train(digits200[0], condition=ink(digits200[0]), model=network, **few)


def test_refused_in_sampling(case, tiny_run):
    kind, with_labels, run = case
    shape, label = shapes[kind], 3 if with_labels else None
    takes = f"but takes one of shape {shape} for all pictures, or 4 of them"
    right = kinds[kind](run.held_out[0])
    for wrong, got in ((None, "None"), (right[:3], f"shape {(3, *shape)}"), (np.ones(7), "shape (7,)"), (np.ones((4, 3, 3, 1)), "shape (4, 3, 3, 1)")):
        with pytest.raises(ValueError) as error: run.sample(4, label, condition=wrong)
        assert str(error.value) == f"condition: got {got}, {takes}"
    with pytest.raises(ValueError, match="^condition: got NaN"): run.sample(4, label, condition=np.nan*right[0])
    with pytest.raises(ValueError, match="^condition: got a ndarray, but takes None, for this network was trained without one"): tiny_run.sample(4, 3, condition=right[0])
    with pytest.raises(ValueError, match="^condition: got None, but takes"): run.reconstruct(run.held_out[0][:4], label)


def test_axes_of_length_one_may_be_left_out():
    assert as_condition([1, 2, 3]).shape == (3, 1) and as_condition(None) is None
    assert as_condition(np.full((3, 4, 4), 255, np.uint8)).max() == 1
    for one in (7, [7]): np.testing.assert_array_equal(condition_rows(one, 2, (1,)), [[7], [7]])
    assert condition_rows([1, 2], 2, (1,)).tolist() == [[1], [2]]
    assert condition_rows(np.ones((4, 4)), 2, (4, 4, 1)).shape == condition_rows(np.ones((2, 4, 4)), 2, (4, 4, 1)).shape == (2, 4, 4, 1)
