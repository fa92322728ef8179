"""Steering: weights of labels, a worse network, and any function, against closed forms."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetdiff.diffusion import Process
from unetdiff.sampling import NoiseLevel, guided_denoiser, points, ratio_times, sample_loop, samplers, steered, weights_at

everywhere = dict(interval=(0, np.inf))
level = NoiseLevel(*map(np.float32, (.6, .5, .8))) # sigma/alpha is 1.6


@pytest.mark.parametrize("guidance, interval, said", [
    ([3.], (0, 9), [3, -2]), ([3.], (2, 9), [1, 0]), ([1.], (0, 9), [1, 0]), ([0.], (0, 9), [0, 1]), ([0.], (2, 9), [0, 1]),
    ([2., -1.], (0, 9), [2, -1, 0]), ([2., -1.], (2, 9), [1, 0, 0]), ([1.5, .5], (2, 9), [.75, .25, 0]), ([-1.], (0, 9), [-1, 2]), ([-1.], (2, 9), [0, 1])])
def test_weights_add_up_to_one_and_exaggerate_nothing_outside_the_interval(guidance, interval, said):
    got = np.asarray(weights_at(level, jnp.array(guidance), interval))
    np.testing.assert_allclose(got, said, atol=1e-6)


def test_the_estimate_is_the_weighted_sum_and_a_worse_network_is_told_the_same():
    process, x = Process(), np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    model, other = (lambda x, step, label, k=k: k*x + .1*label[:, None, None, None] for k in (.3, -.2))
    y, y2 = np.array([1, 2, 3]), np.array([4, 4, 4])
    say = lambda model, label: np.asarray(guided_denoiser(process, model, 10, label)(x, level))
    both = guided_denoiser(process, model, 10, [y, y2], (2., -.5))(x, level)
    np.testing.assert_allclose(both, 2*say(model, y) - .5*say(model, y2) - .5*say(model, np.full(3, 10)), atol=1e-5)
    away = guided_denoiser(process, model, 10, y, 3., weaker=(process, other))(x, level)
    np.testing.assert_allclose(away, 3*say(model, y) - 2*say(other, y), atol=1e-5)


@pytest.mark.parametrize("lo, hi", [(-1., 1.), (0., 1.)])
def test_steering_meets_the_exact_answer_for_independent_pixels(lo, hi):
    "Pixels of standard deviation .35 in the network's range, some of them measured; both range and noise in the wish are of [0, 1]."
    S, s, n, middle = .35, .1, 6000, (lo + hi)/2
    process, value = Process(sigma_data=S), np.float32([.4, -.2, .1])
    estimate = lambda x, t: middle + S**2*t.alpha*(x - t.alpha*middle)/(t.alpha**2*S**2 + t.sigma**2)
    def wish(x, spread): return -((x[:, 0, :3, 0] - (value + middle - lo)/(hi - lo))**2).sum(1)/2/((s/(hi - lo))**2 + spread**2)
    at = points(process.schedule, ratio_times(process.schedule, 60, low=.003))
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(np.arange(n))
    walk = jax.jit(lambda z: sample_loop(steered(estimate, wish, process, lo, hi), z, at, keys, samplers["heun"]))
    x = np.asarray(walk(at.sigma[0]*jax.random.normal(jax.random.key(1), (n, 1, 4, 1), jnp.float32)))[:, 0, :, 0] - middle
    share = S**2/(S**2 + s**2)
    np.testing.assert_allclose(x.mean(0), np.append(share*value, 0), atol=.02)
    np.testing.assert_allclose(x.std(0), np.append([S*(1 - share)**.5]*3, S), rtol=.04)


def test_a_run_takes_weights_a_worse_run_and_a_wish(tiny_run):
    draw = lambda **how: np.asarray(tiny_run.sample(8, steps=3, **how))
    np.testing.assert_array_equal(draw(label={3: 2.}, **everywhere), draw(label=3, guidance=2., **everywhere))
    np.testing.assert_allclose(draw(label=3, weaker=tiny_run, guidance=3., **everywhere), draw(label=3, guidance=1.), atol=1e-5)
    assert draw(label={3: 1.5, 8: -.5}).shape == (8, 8, 8, 1)
    dark = draw(label=3, steer=lambda x: -300*x.sum((1, 2, 3)))
    assert dark.mean() < draw(label=3).mean() - .05, "the wish was for less light"
    assert tiny_run.evaluations(steps=3, weaker=tiny_run, guidance=2., **everywhere) == 6


@pytest.mark.parametrize("how, said", [
    (dict(label={}), "label: got {}, but takes"), (dict(label={3: 0}), "label: got {3: 0}"), (dict(label={3: "a"}), "label: got"), (dict(label={12: 1.}), "label: got 12"),
    (dict(steer=3), "steer: got 3"), (dict(weaker="run"), "weaker: got a str"), (dict(label={3: 1., 8: 1.}, weaker=True), "weaker: got")])
def test_steering_refuses(tiny_run, how, said):
    if how.get("weaker") is True: how = how | dict(weaker=tiny_run)
    with pytest.raises(ValueError, match=said): tiny_run.sample(2, steps=2, **how)


def test_a_worse_run_has_to_fit(tiny_run, least_run):
    with pytest.raises(ValueError, match="weaker: got Run.*but takes a run like this one"): tiny_run.sample(2, weaker=least_run)
