"""Schedules, predictions, weightings and the loss: published numbers, closed forms, every choice with every other, and what is refused."""
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import Moody

from unetdiff.diffusion import (Process, add_noise, cosine_curve, curve_betas, denoise, draw_noise, early_first_times, flow_matching, from_betas, linear_betas,
                                log_linear, loss, per_image, predictions, rescale_zero_terminal_snr, schedules, sigmoid_curve, stratified_uniforms, time_samplers, weightings)

key = jax.random.key(0)


def close(got, want, tolerance, what):
    "Equal shapes, and no difference above the tolerance."
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    assert np.abs(got - want).max() <= tolerance, f"{what}: off by {np.abs(got - want).max()}"


def alpha_bar(name):
    "Share of the picture in the variance at the discrete steps."
    return 1/(1 + np.exp(-schedules[name].log_snr(schedules[name].grid())))


# Schedules

@pytest.mark.parametrize("step, value", {0: .999958716, 249: .84701216, 499: .49384359, 749: .1442721, 999: 2.42877e-9}.items())
def test_cosine_table_has_the_published_values(step, value):
    close(alpha_bar("cosine")[step]/value, 1, 1e-5, "alpha_bar of the cosine schedule")


def test_linear_table_ends_as_published():
    close(alpha_bar("linear")[999]/4.03583e-5, 1, 1e-5, "the last alpha_bar of the linear schedule")


@pytest.mark.parametrize("betas", [linear_betas(), curve_betas(cosine_curve), curve_betas(sigmoid_curve)])
def test_tables_have_a_thousand_steps(betas): assert len(betas) == 1000


@pytest.mark.parametrize("name", schedules)
def test_schedule_is_consistent(name):
    s = schedules[name]
    grid = s.grid()
    alpha, sigma = s.curves(grid)
    log_snr = s.log_snr(grid)
    assert (np.diff(log_snr) < 0).all() and np.isfinite(log_snr).all(), "log-SNR has to fall and be finite"
    if name not in ("edm", "flow"): close(alpha**2 + sigma**2, np.ones(s.T), 1e-12, "variance preserving")
    close(2*np.log(alpha/sigma), log_snr, 1e-6, "the ratio of alpha and sigma")
    close(s.time(log_snr), grid, 1e-3 if name == "flow" else 1e-9, "the inverse of log_snr")
    traced = jax.jit(s.curves)(np.float32(grid))
    for got, want in zip(traced, (alpha, sigma)): close(got/want, np.ones(s.T), 2e-3, "traced in float32, against float64")


def test_log_linear_ends():
    alpha, sigma = schedules["log_linear"].curves(np.array([0., 1.]))
    close(sigma/alpha/[.002, 80], np.ones(2), 1e-9, "noise to signal at both ends")


# Times

def test_each_stratified_number_is_uniform():
    fourth = np.asarray(jax.jit(jax.vmap(lambda k: stratified_uniforms(k, 7)[3]))(jax.random.split(key, 20_000)))
    close(np.histogram(fourth, 10, (0, 1))[0]/20_000, np.full(10, .1), .01, "shares of ten bins")


def test_early_first_draws_steps_by_their_weight():
    u = (np.arange(200_000, dtype=np.float32) + .5)/200_000
    t = early_first_times(u, 0., schedules["log_linear"])
    w = np.linspace(1, .1, 1000)
    close(np.bincount(np.rint(np.asarray(t)*999).astype(int), minlength=1000)/2e5, w/w.sum(), 1e-5, "shares of the steps")


# The loss

@pytest.mark.parametrize("name", predictions)
def test_who_knows_the_picture_makes_no_error(name, digit_images):
    picture = np.broadcast_to(2*digit_images[3] - 1, (64, 8, 8, 1))
    p = Process(prediction=name)

    def oracle(x, t):
        alpha, sigma, (a, b) = p.at(t/999, x)
        n = jnp.hypot(p.sigma_data*alpha, sigma)
        return a*picture + b*(x*n - alpha*picture)/sigma

    @jax.jit
    def both(key):
        t, eps = draw_noise(p, key, picture)
        later = jnp.linspace(.3, .9, 64)
        x_t = add_noise(p.schedule, picture, later, eps)
        return loss(p, oracle, picture, t, eps), denoise(p, oracle, x_t, later)

    error, clean = both(jax.random.key(1))
    assert float(error) < 1e-3
    close(clean, picture, 1e-2, "the picture that it denoises to")


def test_gradient_penalty_has_its_closed_form(digit_images):
    x_0 = 2*digit_images[:8] - 1
    p = Process("clipped_cosine", "eps", "snr_ratio", "early_first", 1.)

    @jax.jit
    def both(key): # the mean of 3 x over n values has the slope 3/(n N) in each
        t, eps = draw_noise(p, key, x_0)
        return [loss(p, lambda x, t: 3*x, x_0, t, eps, gradient_penalty=penalty) for penalty in (1e4, 0.)]

    close(float(np.subtract(*both(key))), 1e4*(3/512)**2, 1e-3, "the penalty")


def test_gradient_penalty_lets_a_network_keep_what_it_keeps():
    x_0, net = np.random.default_rng(0).random((8, 4, 4, 1), np.float32), Moody()
    t, eps = draw_noise(Process(), key, x_0)
    assert np.isfinite(loss(Process(), net, x_0, t, eps, gradient_penalty=.1)), "the loss is no number"
    _, dropout, norm = net.layers.layers
    assert int(dropout.rngs.count[...]) == 1, "its dropout has not counted"
    assert (norm.mean[...] != 0).any(), "it has not kept the statistics of the batch"


@pytest.mark.parametrize("name", schedules)
def test_every_choice_with_every_other_has_a_finite_loss(name):
    pictures = np.random.default_rng(1).standard_normal((4, 2, 2, 1)).astype(np.float32)
    nothing = lambda x, t: np.zeros_like(x)
    for d in time_samplers:
        t, eps = map(np.asarray, draw_noise(Process(name, "v", time_sampler=d), key, pictures)) # NumPy compiles nothing
        for p, w in product(predictions, weightings):
            if (name, p) == ("zero_terminal", "eps"): continue
            assert np.isfinite(loss(Process(name, p, w, d), nothing, pictures, t, eps)), f"loss of {name}, {p}, {w}, {d}"


# What is refused

table = schedules["linear"]
flat = np.zeros((2, 4, 4, 1))
refusals = {
    "noise asked of no signal": ("prediction: got one that tells only the noise", lambda: Process("zero_terminal", "eps")),
    "unknown schedule": ("schedule: got 'cubic', but takes one of 'linear'", lambda: Process("cubic")),
    "unknown prediction": ("prediction: got 'noise'", lambda: Process(prediction="noise")),
    "weighting that is a number": ("weighting: got 3", lambda: Process(weighting=3)),
    "unknown times": ("time_sampler: got 'never'", lambda: Process(time_sampler="never")),
    "no spread": ("sigma_data: got 0", lambda: Process(sigma_data=0)),
    **{f"betas {v!r}": (said, partial(from_betas, v)) for v, said in [
        ([.1], "betas: got [0.1], but takes at least 2 numbers in [0, 1], the first one inside"), ([0., .1], "betas: got [0.0, 0.1]"), ([.1, 1.2], "betas: got [0.1, 1.2]"),
        ([1., .5], "betas: got [1.0, 0.5]"), ("ab", "betas: got 'ab', but takes an array of numbers"), ([[.1, .2]], "betas: got shape (1, 2)"), (None, "betas: got None"),
        ([.1, np.nan], "betas: got NaN")]},
    **{f"betas to rescale {v!r}": (said, partial(rescale_zero_terminal_snr, v)) for v, said in [
        ([.1, 0., 0.], "betas: got zeros after the first"), ([.1], "betas: got [0.1]"), (None, "betas: got None")]},
    **{f"line with {k}": (said, partial(linear_betas, **k)) for k, said in [
        (dict(T=1), "T: got 1, but takes a whole number from 2"), (dict(T=2.), "T: got 2.0"), (dict(first=0.), "first: got 0.0"), (dict(last=1.), "last: got 1.0"), (dict(last="x"), "last: got 'x'")]},
    **{f"curve with {k}": (said, partial(curve_betas, **dict(f=cosine_curve) | k)) for k, said in [
        (dict(f=3), "f: got 3, but takes a function"), (dict(T=1), "T: got 1"), (dict(lowest=.5, highest=.1), "lowest, highest: got 0.5, 0.1"),
        (dict(highest=1.5), "lowest, highest: got 0.0, 1.5"), (dict(lowest=None), "lowest, highest: got None, 0.999")]},
    **{f"edge {v!r}": (f"edge: got {v!r}, but takes a number between 0 and 0.5", partial(flow_matching, v)) for v in (0., .5, "x", None, -1)},
    **{f"levels {v!r}": ("low, high: got", partial(log_linear, *v)) for v in ((0., 1.), (2., 1.), ("x", 1.), (1., 1.))},
    **{f"key {v!r}": (f"key: got {v!r}, but takes a random key", partial(stratified_uniforms, v, 2)) for v in (0, None)},
    **{f"{v!r} numbers": (f"n: got {v!r}, but takes a whole number from 1", partial(stratified_uniforms, key, v)) for v in (0, 2.5)},
    "noise without a key": ("key: got 0, but takes a random key", lambda: draw_noise(Process(), 0, flat)),
    **{f"time {v!r}": ("t: got", partial(table.curves, v)) for v in ("x", None, [.1, .2], True, np.array(["a"]), np.array([1j]))},
    "too many times": ("t: got shape (3,) for pictures of shape (2, 4, 4, 1)", lambda: per_image(np.zeros(3), flat)),
    "noise of another shape": ("eps: got shape (2, 4, 4)", lambda: add_noise(table, flat, np.zeros(2), flat[..., 0])),
}


@pytest.mark.parametrize("said, call", refusals.values(), ids=refusals)
def test_refused_in_one_sentence(said, call):
    with pytest.raises(ValueError) as error: call()
    assert said in str(error.value), str(error.value)


def test_unknown_argument_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match="frist: got .*'first'"): linear_betas(frist=.1)
