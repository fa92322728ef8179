"""Where JAX is allowed float64 (`jax_enable_x64`), everything that trains and samples is float32 all the same."""
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from networks import Dense

from unetdiff import train
from unetdiff.data import draw_batch, hide
from unetdiff.diffusion import Process, draw_noise, loss, predictions, schedules, time_samplers, weightings
from unetdiff.likelihood import elbo, ode_log_likelihood, rising_points
from unetdiff.sampling import points, sample_loop, samplers, spacings
from unetdiff.training import init, optimizers, presets, unet_for

x = np.zeros((4, 8, 8, 1), np.float32)
to_zero = lambda x, t: t.alpha*x


@pytest.fixture(autouse=True)
def float64_allowed(tiny_run): # which is trained before
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def types(tree):
    "The types of all floating arrays, or of what stands for them."
    return {str(a.dtype) for a in jax.tree.leaves(tree) if np.issubdtype(a.dtype, np.floating)}


def loss_of(process, key):
    "Times, noise and loss."
    t, eps = draw_noise(process, key, x, .5)
    return t, eps, loss(process, lambda x, t: x*t[0], x, t, eps, gradient_penalty=.02), loss(process, lambda x, t: x*t[0], x, t, eps)


@pytest.mark.parametrize("schedule", schedules)
@pytest.mark.parametrize("time_sampler", time_samplers)
def test_loss(schedule, time_sampler):
    process = Process(schedule, "v", time_sampler=time_sampler)
    assert types(jax.eval_shape(partial(loss_of, process), jax.random.key(0))) == {"float32"}


@pytest.mark.parametrize("prediction", predictions)
@pytest.mark.parametrize("weighting", weightings)
def test_loss_of_predictions(prediction, weighting):
    process = Process("cosine", prediction, weighting)
    assert types(jax.eval_shape(partial(loss_of, process), jax.random.key(0))) == {"float32"}


@pytest.mark.parametrize("sampler", samplers)
@pytest.mark.parametrize("spacing", spacings)
def test_sampling(sampler, spacing):
    at = points(schedules["cosine"], spacings[spacing](schedules["cosine"], 5))
    walk = partial(sample_loop, to_zero, rule=samplers[sampler])
    assert types((at, jax.eval_shape(walk, x, at, jax.random.split(jax.random.key(0), 4)))) == {"float32"}


@pytest.mark.parametrize("score", [elbo, ode_log_likelihood])
def test_likelihood(score):
    at = rising_points(schedules["log_linear"], 5)
    assert types(jax.eval_shape(partial(score, to_zero), x, at, jax.random.split(jax.random.key(0), 4))) == {"float32"}


@pytest.mark.parametrize("preset", presets)
@pytest.mark.parametrize("optimizer", optimizers)
def test_parameters_and_optimizer(preset, optimizer):
    small = presets[preset].net | dict(features=8)
    params = nnx.state(init(unet_for(replace(presets[preset], net=small), 1, None)), nnx.Param)
    tx = optimizers[optimizer](10)
    assert types((params, jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), params))) == {"float32"}


def test_training_gives_the_same(tiny_run, digit_images, digit_labels, tiny_settings):
    again = train(digit_images, digit_labels, model=Dense(64, 32, nnx.Rngs(0), classes=10), **tiny_settings)
    assert types((nnx.state(again.model, nnx.Param), again.sample(4, 1))) == {"float32"}
    np.testing.assert_allclose(again.history["loss"], tiny_run.history["loss"], rtol=1e-3)


def test_draws_are_the_same():
    draws = lambda: (draw_batch(jax.random.key(1), np.arange(100.), batch_size=8)[0], hide(jax.random.key(1), np.ones(50, np.int32), .5, 3), draw_noise(Process(), jax.random.key(1), x))
    double = jax.device_get(draws())
    jax.config.update("jax_enable_x64", False)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), double, jax.device_get(draws()))
