"""Scores against their definitions, one pair at a time, and evaluation of runs on digits and on other pictures."""
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics import pairwise_distances

from unetdiff.engine.sources import fingerprint
from unetdiff.metrics import (Reference, _kth_smallest, as_table, digits_reference, flat, frechet, kernel_distance, prdc, proportional_labels, quality, radii,
                              real_scores)

line = np.arange(10.)[:, None]


@pytest.fixture
def rng(): return np.random.default_rng(0)


@pytest.fixture(scope="module")
def usual(bundled):
    "What the bundled run scores with 300 samples."
    return bundled.evaluate(300)


@pytest.fixture(scope="module")
def drawn(bundled):
    "A maker of copies of the bundled run that hand out the same 300 samples without drawing them again."
    samples = bundled.sample(300, proportional_labels(300))
    def copy(**info):
        run = replace(bundled, info=bundled.info | info)
        run.sample = lambda n, labels=None, **_: samples
        return run
    return copy


def by_hand(real, fake, k):
    "Precision, recall, density and coverage from their definitions, one pair at a time."
    dist = lambda a, b: sum((p - q)**2 for p, q in zip(a, b))**.5
    ball = lambda points: [sorted(dist(a, b) for j, b in enumerate(points) if j != i)[k - 1] for i, a in enumerate(points)]
    R, F = ball(real), ball(fake)
    count = [sum(dist(x, y) <= r for x, r in zip(real, R)) for y in fake]  # real balls around each sample
    return dict(precision=sum(c > 0 for c in count)/len(fake),
                recall=sum(any(dist(x, y) <= r for y, r in zip(fake, F)) for x in real)/len(real),
                density=sum(count)/(k*len(fake)),
                coverage=sum(any(dist(x, y) <= r for y in fake) for x, r in zip(real, R))/len(real))


def same(a, b):
    "Equal names in equal order, and values but for rounding."
    assert list(a) == list(b)
    assert np.abs(np.array([*a.values()]) - [*b.values()]).max() < 1e-9, f"{a} is not {b}"


def exactly(rng, mean, sd, n=50):
    "Features with exactly this mean and these standard deviations, uncorrelated."
    z = rng.standard_normal((n, len(mean)))
    z -= z.mean(0)
    return mean + np.linalg.qr(z)[0]*np.sqrt(n - 1)*sd  # columns orthogonal, of mean 0 and variance 1


@pytest.mark.parametrize("k", [0, 4, 1.5])
def test_radii_refuse_a_neighbour_that_is_not_there(k):
    with pytest.raises(ValueError, match="with 4 pictures"): radii(np.zeros((4, 1)), k=k)


def test_nearest_neighbours_on_a_line():
    assert np.array_equal(_kth_smallest(line, line, 1), np.ones(10))


@pytest.mark.parametrize("fake, k, scores", [
    ([3., 3., 50.], 1, (2/3, .7, 2., .3)),     # 3 lies in the balls of 2, 3 and 4; the ball of 50 reaches down to 3
    ([2.3, 2.4, 2.5], 1, (1., 0., 2., .2)),    # balls of radius .1: no real one inside
    ([50., 51., 52.], 2, (0., 0., 0., 0.))])
def test_four_shares_counted_on_a_line(fake, k, scores):
    same(prdc(line, np.array(fake)[:, None], k=k), dict(zip(("precision", "recall", "density", "coverage"), scores)))


@pytest.mark.parametrize("n, m, d, k", [(30, 20, 2, 1), (40, 40, 3, 5), (15, 60, 5, 3)])
def test_four_shares_from_their_definitions(rng, n, m, d, k):
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d))*.8 + .3
    same(prdc(x, y, k), by_hand(x.tolist(), y.tolist(), k))


@pytest.mark.parametrize("d", [1, 3, 8])
def test_frechet_of_uncorrelated_features(rng, d):
    m, s = rng.standard_normal((2, d)), rng.uniform(.1, 2, (2, d))
    x, y = exactly(rng, m[0], s[0]), exactly(rng, m[1], s[1], 70)
    assert frechet(x, y) == pytest.approx(((m[0] - m[1])**2).sum() + ((s[0] - s[1])**2).sum(), abs=1e-9)


def test_frechet_of_features_that_never_vary(rng):
    x, y = exactly(rng, np.zeros(3), np.array([1., 2., 0.])), exactly(rng, np.zeros(3), np.array([3., 0., 0.]))
    assert frechet(x, y) == pytest.approx(2**2 + 2**2, abs=1e-7)


def test_frechet_by_the_root_of_the_product(rng):
    x, y = (rng.standard_normal((100, 6)) @ rng.standard_normal((6, 6)) for _ in range(2))
    S_1, S_2 = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0))**2).sum() + np.trace(S_1 + S_2 - 2*np.real(sqrtm(S_1 @ S_2)))
    assert frechet(x, y) == pytest.approx(expected, abs=1e-8)


def test_frechet_has_no_direction(digit_images):
    f = digits_reference().features(digit_images)
    assert frechet(f[:900], f[900:]) == pytest.approx(frechet(f[900:], f[:900]), abs=2e-6)


def test_kernel_distance_one_pair_at_a_time(rng):
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((5, 3)) + 1
    k = lambda a, b: (sum(p*q for p, q in zip(a, b))/3 + 1)**3
    among = lambda v: sum(k(a, b) for i, a in enumerate(v) for j, b in enumerate(v) if i != j)/(len(v)*(len(v) - 1))
    expected = among(x) + among(y) - 2*sum(k(a, b) for a in x for b in y)/30
    assert kernel_distance(x, y) == pytest.approx(expected, abs=1e-9)


def test_quality_without_labels_has_no_accuracy(digit_images, digit_labels):
    x, y = digit_images[:100], digit_labels[:20]
    assert list(quality(x[:20], None, x, x)) == [k for k in quality(x[:20], y, x, x) if k != "accuracy"]


def test_table_is_aligned():
    assert as_table({"a": dict(x=.12345, n=10)}) == "|     |     x |   n |\n| --- | ----: | --: |\n| a   | 0.123 |  10 |"


def test_scores_are_plain_numbers_and_one_table(usual):
    assert list(usual) == list(usual.real)
    assert json.loads(json.dumps(usual)) == dict(usual)
    assert {type(v) for v in [*usual.values(), *usual.real.values()]} == {float, int}
    lines = repr(usual).splitlines()
    assert len({len(l) for l in lines}) == 1, "the columns are not aligned"
    assert [l.split("|")[1].strip() for l in lines[2:]] == ["samples", "real"]
    assert usual._repr_markdown_() == str(usual) and "300" in lines[2]


def test_all_real_digits_against_themselves():
    whole = real_scores(5000)  # more than there are
    assert whole["n"] == 1797 and whole["frechet"] < 2e-6
    assert np.allclose([whole[k] for k in ("precision", "recall", "density", "coverage")], [1, 1, 1.2, 1], atol=1e-3)


def test_real_scores_depend_on_the_seed_alone():
    again = Reference(digits_reference().images, digits_reference().labels)
    again.classifier = digits_reference().classifier
    assert real_scores(300, seed=1) == real_scores(300, seed=1, reference=again) and again.scores
    assert real_scores(300, seed=1) != real_scores(300, seed=2)


def test_labels_come_in_the_digits_own_proportions(digit_labels):
    share = np.bincount(digit_labels)/1797
    assert np.array_equal(np.bincount(proportional_labels(1797)), np.bincount(digit_labels))
    assert np.abs(np.bincount(proportional_labels(500))/500 - share).max() < .003
    with pytest.raises(ValueError, match="pictures without labels"): proportional_labels(5, Reference(np.zeros((9, 8, 8))))


def test_own_pictures_score_as_the_digits_do(drawn, usual, digit_images, digit_labels):
    own = drawn().evaluate(300, images=digit_images, labels=digit_labels)
    assert dict(own) == dict(usual) and own.real == usual.real
    reference = Reference(digit_images, digit_labels)
    reference.classifier = digits_reference().classifier
    assert dict(drawn().evaluate(300, images=reference)) == dict(usual)
    streamed = drawn(streamed=True, data=fingerprint(digit_images, True))
    assert dict(streamed.evaluate(300, images=reference)) == dict(usual)


def test_pictures_without_labels_are_scored_by_components(drawn, usual, digit_images):
    blind = drawn(classes=None).evaluate(300, images=digit_images)
    assert list(blind) == [k for k in usual if k != "accuracy"] and list(blind.real) == list(blind)
    assert blind.real["precision"] == 1. and blind["coverage"] > .3 and blind["frechet"] < 1, f"{blind}"


def test_as_many_components_as_pixels_lose_nothing(digit_images):
    x = digit_images[:50]
    ends = Reference(digit_images).features(x)
    assert ends.shape == (50, 64)
    assert np.abs(pairwise_distances(ends) - pairwise_distances(flat(x))).max() < 1e-3


@pytest.mark.parametrize("size", [(9, 9), (8, 7)])
def test_features_refuse_pictures_of_another_size(size):
    with pytest.raises(ValueError, match="pictures like the real ones"): digits_reference().features(np.zeros((3, *size)))


def test_runs_on_other_pictures_are_refused(bundled, drawn, digit_images, digit_labels):
    x, y = digit_images[:900], digit_labels[:900]
    with pytest.raises(ValueError, match="all ten digits"): drawn(data=0).evaluate()
    with pytest.raises(ValueError, match="trained on these pictures"): bundled.evaluate(images=x, labels=y)
    with pytest.raises(ValueError, match="labels: got None"): bundled.evaluate(images=digit_images)
    streamed = drawn(streamed=True, data=fingerprint(digit_images, True))
    with pytest.raises(ValueError, match="trained on these pictures"): streamed.evaluate(images=x, labels=y)
