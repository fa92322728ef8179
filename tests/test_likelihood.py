"""Likelihood: both estimates on other schedules and scales, batches, and what is refused. On Gaussian pixels the truth is known."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetdiff.data import to_range
from unetdiff.diffusion import Process, schedules
from unetdiff.likelihood import dequantise, elbo, ode_log_likelihood, rising_points, squared, summary
from unetdiff.sampling import NoiseLevel

m, s, low = -.4, .7, .03
schedule = Process().schedule
key = jax.random.key(0)
keys = jax.random.split(key, 256)
x = np.float32(m + s*np.random.default_rng(1).standard_normal((256, 8, 8, 1)))


def exact(x, t):
    "The mean of all Gaussian pixels that could be behind `x`."
    return (t.alpha*s**2*x + t.sigma**2*m)/(t.alpha**2*s**2 + t.sigma**2)


@jax.jit
def pair(at):
    "Both estimates with the exact denoiser."
    return elbo(exact, x, at, keys, s), ode_log_likelihood(exact, x, at, keys, s)


def truth(extra=0.):
    "log N(x; m, s^2 + low^2) in nats per dimension, with `extra` added to the squared distances."
    var = s**2 + low**2
    return float((-(squared(x - m) + extra)/(2*var) - 32*np.log(2*np.pi*var)).mean()/64)


def close(got, want, tolerance, what):
    "Equal shapes, and no difference above the tolerance."
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    assert np.abs(got - want).max() <= tolerance, f"{what}: off by {np.abs(got - want).max()}"


# The two estimates

def test_many_points_come_closer_to_the_closed_form():
    bound, flow = map(np.asarray, pair(rising_points(schedule, 512, low)))
    close(bound.mean()/64, truth(64*low**2), 1e-2, "the bound")
    close(flow.mean()/64, truth(), 2e-4, "the flow")


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_flow_is_right_on_other_schedules(name):
    close(np.asarray(pair(rising_points(schedules[name], 128, low, 60.))[1]).mean()/64, truth(), 3e-3, "the flow")


def test_scale_of_the_schedule_does_not_matter():
    at = rising_points(schedule)
    wide = lambda x, t: exact(x/5, NoiseLevel(t.t, t.alpha/5, t.sigma/5)) # a schedule that does not preserve variance
    at5 = NoiseLevel(at.t, 5*at.alpha, 5*at.sigma)
    scaled = jax.jit(lambda at: (elbo(wide, x, at, keys, s), ode_log_likelihood(wide, x, at, keys, s)))(at5)
    for got, want in zip(scaled, pair(at)): close(got, want, 2e-2, "nats on a scaled schedule")


def test_divergence_of_a_linear_map_is_its_trace():
    A = np.float32(np.random.default_rng(2).standard_normal((6, 6))/6)
    linear = lambda x, t: (x.reshape(len(x), 6) @ A.T).reshape(x.shape)/t.alpha
    c = np.asarray(jax.jit(lambda at: ode_log_likelihood(linear, jnp.ones((256, 2, 3, 1)), at, keys, path=True))(rising_points(schedule))[1])
    assert c.shape == (64, 256)
    close(c.mean(), np.trace(A), 4*c.std()/c.size**.5, "the mean of the estimates")


def test_path_of_the_bound_has_a_row_for_each_point():
    shape = jax.eval_shape(lambda at: elbo(exact, x, at, keys, s, path=True), rising_points(schedule))[1].shape
    assert shape == (64, 256)


def test_points_are_even_in_log_noise():
    at = rising_points(schedule)
    close(np.diff(np.log(np.asarray(at.sigma)/np.asarray(at.alpha))), np.full(63, np.log(80/.03)/63), 1e-4, "steps of log(sigma/alpha)")


def test_same_key_gives_same_pictures(digit_images):
    for got, want in zip(*(np.asarray(dequantise(key, digit_images[:8])) for _ in range(2))): assert (got == want).all()


# Scoring a run

def test_score_of_a_picture_does_not_depend_on_the_others(tiny_run, digit_images, digit_labels):
    pictures = to_range(np.asarray(dequantise(jax.random.key(5), digit_images[:6])))
    at = rising_points(schedule, 16)
    six, four = (tiny_run.undecided(pictures[:n], digit_labels[:n], at, jax.random.key(6), 4) for n in (6, 4))
    for a, b, shape in zip(jax.tree.leaves(six), jax.tree.leaves(four), [(6,), (16, 6)]*2, strict=True):
        assert a.shape == shape and np.isfinite(a).all()
        assert (a[..., :4] == b).all(), "a picture's score depends on the others"


@pytest.fixture(scope="module")
def few(tiny_run, digit_images, digit_labels):
    "Score four pictures at 16 noise levels."
    return lambda images=digit_images[:4], labels=digit_labels[:4], **k: tiny_run.bits_per_dim(images, labels, **dict(stops=16) | k)


def test_seed_decides(few):
    scores = few()
    assert scores == few() and scores != few(seed=1)
    assert scores["n"] == 4 and all(type(v) in (float, int) for v in scores.values())
    assert list(scores) == ["bound", "bound_error", "flow", "flow_error", "n"]


def test_summary_of_even_chances():
    close(summary([-64*np.log(2)]*2, 64, 2/16), (4., 0.), 1e-5, "bits and standard error")


def test_network_without_labels_on_other_shapes(least_run):
    grey = np.full((3, 9, 7, 3), .5, np.float32)
    assert set(least_run.bits_per_dim(grey, stops=8)) == {"bound", "bound_error", "flow", "flow_error", "n"}
    with pytest.raises(ValueError, match=r"label: got \[0, 1, 1\]"): least_run.bits_per_dim(grey, [0, 1, 1], stops=8)


# What is refused

@pytest.mark.parametrize("bad, said", [(dict(n=1), "n: got 1"), (dict(low=0.), "low, high: got 0.0, 80.0"), (dict(low=2., high=1.), "low, high: got 2.0, 1.0"), (dict(low=None), "low, high: got None")])
def test_impossible_points_are_refused(bad, said):
    with pytest.raises(ValueError, match=said): rising_points(schedule, **bad)


@pytest.mark.parametrize("levels, said", [(16, "levels: got 16, and pixels between the multiples of 1/15"), (1, "levels: got 1")])
def test_other_grey_levels_are_refused(levels, said, digit_images):
    with pytest.raises(ValueError, match=said): dequantise(key, digit_images[:64], levels)


@pytest.mark.parametrize("settings, said", [(dict(batch_size=0), "batch_size: got 0"), (dict(low=-1.), "low, high: got -1.0"), (dict(stops=1), "stops: got 1"), (dict(levels=16), "multiples of 1/15")])
def test_impossible_settings_are_refused(settings, said, few):
    with pytest.raises(ValueError, match=said): few(**settings)


def test_pictures_that_do_not_fit_are_refused(few, digit_images, digit_labels):
    four = digit_images[:4]
    for bad, said in [((four[:, :4], digit_labels[:4]), "images: got shape (4, 4, 8, 1)"), ((four[:1], digit_labels[:1]), "images: got 1 picture"), ((four, None), "labels: got None"),
                      ((four, [1, 2]), "label: got [1, 2]"), ((four*.99, digit_labels[:4]), "levels: got 17, and pixels between")]:
        with pytest.raises(ValueError) as error: few(*bad)
        assert said in str(error.value), str(error.value)
