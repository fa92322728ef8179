"""Few pictures: flips, augmentation of which the network is told, dropout in the U-Net."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unetdiff import load, train
from unetdiff.data import augment, augmentations, flip, vary, warp
from unetdiff.training import Recipe
from unetdiff.unet import UNet, init

rng = np.random.default_rng(0)
x = rng.random((12, 8, 6, 3)).astype(np.float32)
y = np.arange(12) % 3
small = dict(net=dict(features=8, channel_mults=(1,), attention_levels=(), time_emb_dim=16), batch_size=4, log_every=4, steps=8, progress=False)


def test_moving_by_whole_pixels_and_mirroring_are_exact():
    one = np.tile(np.eye(2, dtype=np.float32), (12, 1, 1))
    moved = np.asarray(warp(x, one, np.tile(np.float32([1/8, -2/6]), (12, 1))))
    assert np.abs(moved[:, 1:, :-2] - x[:, :-1, 2:]).max() < 1e-5
    assert np.abs(moved[:, 0, :-2] - x[:, 0, 2:]).max() < 1e-5, "beyond the edge the last pixel goes on"
    assert np.abs(np.asarray(warp(x, one*np.float32([1, -1]), np.zeros((12, 2), np.float32))) - x[:, :, ::-1]).max() < 1e-5


def test_told_is_zero_exactly_where_nothing_was_done():
    changed, done = (np.asarray(v) for v in augment(jax.random.key(0), np.tile(x, (20, 1, 1, 1)), .125))
    is_same = (changed == np.tile(x, (20, 1, 1, 1))).all((1, 2, 3))
    assert done.shape == (240, len(augmentations)) and np.array_equal(is_same, (done == 0).all(1))
    assert abs(is_same.mean() - .875**4) < .1, f"left alone: {is_same.mean()}, .875^4 is {.875**4:.2f}"


def test_what_was_done_can_be_undone():
    "A smooth picture, warped by what is told and warped back, is itself in its middle."
    smooth = np.sin(np.indices((32, 32)).sum(0)/6).astype(np.float32).reshape(1, 32, 32, 1)
    for seed in range(5):
        changed, done = augment(jax.random.key(seed), smooth, 1.)
        mirrored, zoom, cos, sin, *away = np.asarray(done)[0].astype(float)
        R, scale = np.array([[cos + 1, -sin], [sin, cos + 1]]), 2**(-.2*zoom)
        A = scale*R @ np.diag([1, 1 - 2*mirrored])
        back = np.linalg.inv(A)
        move = .125*np.array(away) # p shows A p - move, so the way back shows A^-1 (p + move)
        again = np.asarray(warp(changed, back[None].astype(np.float32), (-back @ move)[None].astype(np.float32)))
        middle = slice(13, 19)
        if np.hypot(*away)*.125*scale < .3: assert np.abs(again - smooth)[0, middle, middle].max() < .1, f"seed {seed}: {np.abs(again - smooth)[0, middle, middle].max()}"


def test_half_is_mirrored_and_a_condition_with_its_picture():
    many = np.tile(x, (50, 1, 1, 1))
    changed, (labels, beside) = flip(jax.random.key(0), (many, (np.arange(600), many[:, ::2, ::2])))
    is_same = (np.asarray(changed) == many).all((1, 2, 3))
    assert .4 < is_same.mean() < .6 and np.array_equal(labels, np.arange(600))
    assert np.array_equal(is_same, (np.asarray(beside) == many[:, ::2, ::2]).all((1, 2, 3)))


def test_without_either_a_step_sees_what_it_saw():
    recipe = Recipe(label_dropout=0.)
    seen, told = vary(jax.random.key(0), x, (y, None), (3, None), recipe)
    assert seen is x and np.array_equal(told[0], y)


@pytest.mark.parametrize("labels", [None, y])
def test_a_network_is_told_and_samples_without(labels, tmp_path):
    run = train(x, labels, augment=.5, flips=True, out=tmp_path/"run", **small)
    assert run.model.augmentation.kernel[...].shape == (6, 16) and np.abs(np.asarray(run.model.augmentation.kernel[...])).max() > 0
    pictures = np.asarray(run.sample(3))
    assert pictures.shape == (3, 8, 6, 3) and np.isfinite(pictures).all()
    again = load(tmp_path/"run")
    assert np.array_equal(np.asarray(again.sample(3)), pictures) and again.recipe.augment == .5 and again.recipe.flips
    further = train(x, labels, model=again, **{k: v for k, v in small.items() if k != "net"})
    assert np.isfinite(further.history["loss"]).all() and further.recipe.augment == .5
    plain = train(x, labels, **small)
    assert not np.array_equal(plain.history["loss"], run.history["loss"]) and plain.model.augmentation is None


def test_resumed_is_the_same(tmp_path):
    whole = train(x, y, augment=.3, **small)
    train(x, y, augment=.3, out=tmp_path/"run", callback=lambda step, metrics, run: step == 4, **small)
    resumed = train(x, y, augment=.3, out=tmp_path/"run", resume=True, **small)
    assert np.array_equal(whole.history["loss"], resumed.history["loss"])


def test_the_network_that_is_told_differs_by_what_was_done():
    model = init(lambda rngs: UNet(3, 3, 8, 16, channel_mults=(1,), augmentation=6, rngs=rngs))
    t, done = jnp.full(12, 500.), np.zeros((12, 6), np.float32)
    assert np.array_equal(np.asarray(model(x, t)), np.asarray(model(x, t, done))), "all zeros is none"
    assert not np.array_equal(np.asarray(model(x, t)), np.asarray(model(x, t, done + 1)))


def test_own_networks_and_other_runs_are_refused():
    class Own(nnx.Module):
        def __init__(self): self.scale = nnx.Param(jnp.ones(()))
        def __call__(self, x, t): return x*self.scale[...]
    rest = {k: v for k, v in small.items() if k != "net"}
    with pytest.raises(ValueError, match="augment: got 0.2, but takes 0 here"): train(x, model=Own(), augment=.2, **rest)
    run = train(x, **small)
    with pytest.raises(ValueError, match="augment: got 0.2"): train(x, model=run, augment=.2, **rest)
    with pytest.raises(ValueError, match="augment: got 1.5"): train(x, augment=1.5, **small)
    with pytest.raises(ValueError, match="flips: got"): train(x, flips="yes", **small)
    assert np.isfinite(train(x, model=Own(), flips=True, **rest).history["loss"]).all()


def test_dropout_acts_in_training_alone(tmp_path):
    settings = small | dict(net=small["net"] | dict(dropout=.5))
    run = train(x, y, out=tmp_path/"run", **settings)
    assert run.history["test_loss"][-1] != train(x, y, **small).history["test_loss"][-1]
    a, b = (np.asarray(run.sample(3)) for _ in range(2))
    assert np.array_equal(a, b) and np.array_equal(np.asarray(load(tmp_path/"run").sample(3)), a)
    with pytest.raises(ValueError, match="dropout: got 1"): train(x, y, **small | dict(net=dict(dropout=1.)))


def test_held_out_loss_is_without_dropout():
    from unetdiff.diffusion import draw_noise
    from unetdiff.training import held_out_loss
    process = Recipe().process
    losses = []
    for dropout in (0., .9): # the same weights
        model = init(lambda rngs: UNet(3, 3, 8, 16, channel_mults=(1,), dropout=dropout, rngs=rngs), 1)
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        losses.append(float(held_out_loss(params, rest, 2*x - 1, None, graph=graph, process=process)))
    assert losses[0] == losses[1], f"the held-out loss with dropout is {losses[1]}, without {losses[0]}"


def test_dropout_draws_anew_in_each_step():
    model = init(lambda rngs: UNet(3, 3, 8, 16, channel_mults=(1,), dropout=.5, rngs=rngs))
    t = jnp.full(12, 500.)
    assert not np.array_equal(np.asarray(model(x, t)), np.asarray(model(x, t)))
    model.eval()
    assert np.array_equal(np.asarray(model(x, t)), np.asarray(model(x, t)))
