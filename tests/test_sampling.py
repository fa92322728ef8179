"""Samplers: rules on every schedule, guidance, churn, labels, known pixels, and what is refused."""
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetdiff.diffusion import Process, schedules
from unetdiff.sampling import NoiseLevel, churned, dynamic, guided_denoiser, points, ratio_times, sample_batch, samplers, slerp, spacings

process = Process() # of the default recipe


def levels(schedule, t): return NoiseLevel(*map(np.asarray, points(schedule, t)))


@pytest.mark.parametrize("kind", spacings)
@pytest.mark.parametrize("name", schedules)
def test_spacings_fall_within_the_schedule(name, kind):
    t = spacings[kind](schedules[name], 9)
    assert t.shape == (9,) and (np.diff(t) < 0).all() and 0 <= t[-1] and t[0] <= 1, f"{kind} on {name}: {t}"


@pytest.mark.parametrize("name", schedules)
def test_log_snr_spacing_is_even(name):
    p = levels(schedules[name], spacings["log_snr"](schedules[name], 9))
    r = np.diff(np.log((p.sigma/p.alpha)[:9]))
    assert np.abs(r/r[0] - 1).max() < .03, f"steps in log(sigma/alpha): {r}"


def test_uniform_spacing_has_the_whole_schedule(): assert spacings["uniform"](process.schedule, 1000)[[0, 999]].tolist() == [1, 0]


def test_rules_stay_on_the_line_from_picture_to_noise():
    "Where there is one picture only, each deterministic rule goes straight from its noise to it, on any schedule."
    step = jax.jit(lambda x, t, s, previous, z, rule: rule(lambda x, t: jnp.full_like(x, .1), x, t, s, previous, z)[0], static_argnames="rule")
    zero, one = np.zeros((1, 2, 2, 1), np.float32), np.ones((1, 2, 2, 1), np.float32)
    for name, schedule in schedules.items():
        p = levels(schedule, spacings["log_snr"](schedule, 7))
        t, s = (NoiseLevel(*(v[i] for v in p)) for i in (2, 3))
        for kind in ("ddim", "euler", "heun", "dpmpp_2m"):
            y = step(t.alpha*.1 + t.sigma*one, t, s, (zero, np.float32(0)), zero, samplers[kind])
            off = np.abs(np.asarray(y)/(s.alpha*.1 + s.sigma*one) - 1).max()
            assert off < 2e-5, f"{kind} on {name} leaves the line by {off}"


def test_fresh_noise_in_2m_is_as_much_as_in_ddpm():
    "With nothing to extrapolate from, and where the estimate does not change, SDE-DPM-Solver++(2M) is DDPM."
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(3, 4, 4, 1)).astype(np.float32) for _ in range(2))
    constant = lambda x, t: jnp.full_like(x, .1)
    for name, schedule in schedules.items():
        p = levels(schedule, spacings["log_snr"](schedule, 7))
        for i in (0, 3, 6):
            t, s = (NoiseLevel(*(v[j] for v in p)) for j in (i, i + 1))
            for previous in ((np.zeros_like(x), np.float32(0)), (np.full_like(x, .1), np.float32(.7))):
                a, b = (np.asarray(samplers[rule](constant, x, t, s, previous, z)[0]) for rule in ("dpmpp_2m_sde", "ddpm"))
                assert np.abs(a - b).max() < 2e-5, f"{name}, step {i}: {np.abs(a - b).max()} apart"


def test_churn_raises_the_levels_between_its_bounds_and_no_others():
    t = churned("karras", .3, low=.1, high=10)(process.schedule, 24)
    r, up, down = np.exp(-process.schedule.log_snr(t)/2), np.flatnonzero(np.diff(t) > 0), np.r_[True, np.diff(t) < 0]
    assert np.abs(r[up + 1]/r[up] - 1.3).max() < 2e-3
    assert (r[up] >= .1).all() and (r[up] <= 10).all() and len(up) == np.sum((r[down] >= .1) & (r[down] <= 10))


@pytest.mark.parametrize("name", ["log_linear", "edm", "flow"])
def test_no_churn_is_the_spacing_itself(name): assert (churned("karras", 0.)(schedules[name], 9) == ratio_times(schedules[name], 9)).all()


@pytest.mark.parametrize("call, said", [(lambda: churned("karras", -1.), "gamma: got -1.0"), (lambda: churned("odd")(process.schedule, 9), "spacing: got 'odd'")])
def test_churn_refuses(call, said):
    with pytest.raises(ValueError, match=said): call()


def test_dynamic_thresholding_leaves_what_is_in_range_and_knows_any_range():
    x = np.float32([-1.5, -.5, .5, 3.]).reshape(1, 4, 1, 1)
    assert np.abs(np.asarray(dynamic(x/4, -1., 1.)) - x/4).max() < 1e-6
    assert np.abs(np.asarray(dynamic((x + 1)/2, 0., 1.)) - (np.asarray(dynamic(x, -1., 1.)) + 1)/2).max() < 1e-6


def test_guidance_mixes_the_two_estimates_inside_its_interval():
    model = lambda x, step, label: .1*x + .05*label[:, None, None, None]
    x, y, t = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32), np.array([1, 2, 3, 4]), NoiseLevel(*map(np.float32, (.6, .5, .8)))
    program = jax.jit(lambda y, w, interval: guided_denoiser(process, model, 10, y, w, interval)(x, t))
    est = lambda y, w=1., interval=(0., np.inf): np.asarray(program(y, w, interval))
    off = lambda a, b: np.abs(a - b).max()
    none = np.full(4, 10)
    assert off(est(y, 0.), est(none)) < 1e-6 and off(est(y, 3.), 3*est(y) - 2*est(none)) < 1e-5
    for interval, same in [((.5, 2.), est(y, 3.)), ((2., 9.), est(y)), ((.1, .5), est(y))]: assert off(est(y, 3., interval), same) < 1e-6, f"sigma/alpha is 1.6, the interval {interval}"


def test_evaluations_are_counted(bundled):
    counts = {"dpmpp_2m": 8, "ddpm": 8, "heun": 15}
    assert {k: bundled.evaluations(steps=8, sampler=k, guidance=1.) for k in counts} == counts
    assert [bundled.evaluations(steps=8, guidance=w, interval=(0, np.inf)) for w in (0., 1., 2.)] == [8, 8, 16]
    p = bundled.plan(steps=8).at
    r = np.asarray(p.sigma[:-1])/np.asarray(p.alpha[:-1])
    inside = int(((r >= .4) & (r <= 5)).sum())
    assert bundled.evaluations(steps=8, guidance=2., interval=(.4, 5.)) == 8 + inside and 0 < inside < 8


def test_churned_walks_cost_no_more_evaluations_and_stay_finite(bundled, tiny_run):
    up = churned("karras", .4)
    assert len(up(process.schedule, 8)) > 8 and bundled.evaluations(steps=8, spacing=up, guidance=1.) == 8
    for sampler in ("heun", "dpmpp_2m"): assert np.isfinite(tiny_run.sample(2, spacing=up, sampler=sampler, batch_size=8)).all()


def test_samples_have_shape_type_range_and_depend_on_the_seed(tiny_run):
    x = np.asarray(tiny_run.sample(16, seed=3))
    assert x.shape == (16, 8, 8, 1) and x.dtype == np.float32 and 0 <= x.min() and x.max() <= 1
    assert not np.array_equal(tiny_run.sample(16, seed=4), x)
    assert (tiny_run.labels_for(4000, None, 0)[:9] == tiny_run.labels_for(9, None, 0)).all()


def test_path_ends_at_the_sample(tiny_run):
    path = tiny_run.sample(2, label=[3, 5], path=True)
    assert path.shape == (11, 2, 8, 8, 1)
    assert np.abs(np.asarray(path[-1]) - np.asarray(tiny_run.sample(2, label=[3, 5]))).max() < 1e-5


@pytest.mark.parametrize("bad, said", [(dict(n=0), "n: got 0"), (dict(n=2.5), "n: got 2.5"), (dict(n=2, label=10), "label: got 10"), (dict(n=2, label=[1, 2, 3]), r"label: got \[1, 2, 3\]"),
                                       (dict(n=2, label=-1), "label: got -1"), (dict(n=2, label="three"), "label: got 'three'"), (dict(n=2, steps=0), "steps: got 0"),
                                       (dict(n=2, sampler="euclid"), "sampler: got 'euclid'"), (dict(n=2, spacing="odd"), "spacing: got 'odd'"), (dict(n=2, guidance=float("nan")), "guidance: got nan"),
                                       (dict(n=2, interval=3), "interval: got 3"), (dict(n=2, interval=(1, "2")), r"interval: got \(1, '2'\)"), (dict(n=2, thresholding="cut"), "thresholding: got 'cut'"),
                                       (dict(n=2, start=.01), "start: got 0.01"), (dict(n=2, z=np.zeros((3, 8, 8, 1))), r"z: got shape \(3, 8, 8, 1\)")])
def test_sample_refuses(bundled, bad, said):
    with pytest.raises(ValueError, match=said): bundled.sample(**bad)


def test_known_pixels_stay_to_the_bit(tiny_run, digit_images):
    x, left = digit_images[:8], np.broadcast_to(np.arange(8) < 4, (8, 8))
    y = tiny_run.reconstruct(x, known=left, spacing=churned("karras", .4), sampler="ddpm", batch_size=8)
    assert (np.asarray(y)[:, :, :4] == x[:, :, :4]).all()
    assert (np.asarray(tiny_run.reconstruct(x, known=np.ones((8, 8, 8, 1), bool), batch_size=8)) == x).all()


@pytest.mark.parametrize("call, said", [(lambda run, x: run.reconstruct(np.zeros((2, 4, 4, 1), np.float32)), r"images: got shape \(2, 4, 4, 1\)"),
                                        (lambda run, x: run.reconstruct(x, known=np.ones((8, 8))), r"known: got float64 of shape \(8, 8\)"),
                                        (lambda run, x: run.reconstruct(x, known=np.ones((3, 8, 8, 1), bool)), r"known: got bool of shape \(3, 8, 8, 1\)")])
def test_reconstruct_refuses(bundled, digit_images, call, said):
    with pytest.raises(ValueError, match=said): call(bundled, digit_images[:8])


def test_plans_start_where_asked(bundled):
    p = bundled.plan(steps=5, start=2.).at
    assert abs(float(p.sigma[0]/p.alpha[0]) - 2) < 1e-2 and len(p.t) == 6 and (np.diff(p.t) < 0).all()
    p = bundled.plan(steps=1, start=2.).at
    assert abs(float(p.sigma[0]/p.alpha[0]) - 2) < 1e-2


def test_pictures_that_are_not_square_and_have_no_labels(least_run):
    assert least_run.sample(3, steps=2).shape == (3, 9, 7, 3)
    assert least_run.reconstruct(np.zeros((2, 9, 7, 3), np.float32), steps=2).shape == (2, 9, 7, 3)
    assert least_run.evaluations() == 10 and least_run.labels_for(3, None, 0) is None
    with pytest.raises(ValueError, match="label: got 1, but takes None"): least_run.sample(3, label=1)
    with pytest.raises(ValueError, match="guidance: got 2"): least_run.sample(3, guidance=2.)


@pytest.mark.parametrize("a, b, u, said", [(np.zeros(3), np.ones(3), [.5], "only zeros in one"), (np.ones(3), np.ones(4), [.5], "a, b: got shapes"), (np.ones(3), np.ones(3), [2.], "u: got")])
def test_slerp_refuses(a, b, u, said):
    with pytest.raises(ValueError, match=said): slerp(a, b, u)


def test_recipes_that_sample_alike_share_programs(tiny_run):
    tiny_run.sample(2, 1)
    before = sample_batch.kept.cache_info().misses
    replace(tiny_run, recipe=replace(tiny_run.recipe, steps=7, batch_size=16)).sample(3, 2, guidance=1.1)
    assert sample_batch.kept.cache_info().misses == before, "another program was made for a recipe that differs only in training"
