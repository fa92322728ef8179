"""Scores against their definitions, one pair at a time, and evaluation of runs on digits and on other pictures."""
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics import pairwise_distances

from unetdiff.engine.sources import fingerprint
from unetdiff.metrics import (Reference, ShapeFeatures, _kth_smallest, as_table, digits_reference, edges, flat, frechet, gaussian_like, in_cells, kernel_distance,
                              nearest, prdc, proportional_labels, quality, radii, shape_and_colour, shuffle_tiles)

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
    labels = digits_reference().labels[digits_reference().yardsticks(300)[1]]
    samples = bundled.sample(300, labels)
    def copy(**info):
        run = replace(bundled, info=bundled.info | info)
        run.sample = lambda n, labels=None, **_: samples[:n]
        return run
    return copy


def figures(n, size, channels):
    "Discs, rings, bars and wedges of any place, size and colour on white, and which each is."
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:size, :size]/size
    x, y = np.ones((n, size, size, channels), np.float32), rng.integers(0, 4, n)
    for picture, kind in zip(x, y):
        (a, b), r = rng.uniform(.4, .6, 2), rng.uniform(.2, .35)
        far = np.hypot(u - a, v - b)
        masks = far < r, (far < r) & (far > r/2), (abs(u - a) < r/4) & (abs(v - b) < r), (v - b > 2*abs(u - a) - r) & (v - b < r)
        picture[masks[kind]] = rng.uniform(0, .7, channels)
    return x, y


def other_scores(real, fake):
    "Precision, coverage and Frechet distance by another way: nine orientations of the grey gradient in 4 x 4 cells, and coarse colour."
    def look(x):
        grey = x.mean(-1)
        dv, du = np.gradient(grey, axis=1), np.gradient(grey, axis=2)
        which = (np.arctan2(dv, du) % np.pi/np.pi*9).astype(int) % 9
        bins = np.eye(9)[which]*np.hypot(du, dv)[..., None]
        cells = np.concatenate([bins, x], -1).reshape(len(x), 4, x.shape[1]//4, 4, x.shape[2]//4, -1).mean((2, 4))
        return cells.reshape(len(x), -1)
    a, b = look(real), look(fake)
    return prdc(a, b) | dict(frechet=frechet(a, b))


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
    assert list(usual) == list(usual.real) and usual.real is usual.rows["new real"]
    assert json.loads(json.dumps(usual)) == dict(usual)
    assert {type(v) for row in (usual, *usual.rows.values()) for v in row.values()} == {float, int}
    lines = repr(usual).split("\n\n")[0].splitlines()
    assert len({len(l) for l in lines}) == 1, "the columns are not aligned"
    assert [l.split("|")[1].strip() for l in lines[2:]] == ["samples", "new real", "Gaussian", "shuffled tiles"]
    assert all(l.split("|")[-2].strip() == "300" for l in lines[2:]), "each row has its n"
    assert usual._repr_markdown_() == str(usual) and usual.remarks == ["Compared with 898 real pictures; the new real ones are from the other half."]


def test_rows_depend_on_the_seed_alone():
    again = Reference(digits_reference().images, digits_reference().labels)
    assert again.yardsticks(300, 1)[0] == digits_reference().yardsticks(300, 1)[0]
    assert again.yardsticks(300, 1)[0] != again.yardsticks(300, 2)[0]


def test_halves_share_no_picture():
    whole = digits_reference()
    half, new = whole.halves
    assert len(half.images) + len(new) == 1797 and len({*new}) == len(new)
    assert nearest(whole.images[new], half.images).min() > 0, "a picture is on both sides"
    assert np.abs(np.bincount(half.labels) - np.bincount(whole.labels[new])).max() <= 1


@pytest.mark.parametrize("size, channels", [(8, 1), (16, 1), (16, 3), (28, 3)])
def test_rows_come_in_the_order_that_another_scorer_gives(size, channels):
    x, y = figures(500, size, channels)
    reference = Reference(x, y)
    half, i = reference.halves
    new, new_y = reference.images[i], reference.labels[i]
    rows, _ = reference.yardsticks(len(new))
    others = {name: other_scores(half.images, v) for name, v in
              {"new real": new, "Gaussian": gaussian_like(half.images, half.labels, new_y), "shuffled tiles": shuffle_tiles(new)}.items()}
    real, mush, tiles = rows.values()
    for key, sign in dict(precision=1, coverage=1, frechet=-1).items():
        ours, theirs = ([sign*table[name][key] for name in rows] for table in (rows, others))
        assert ours[0] > max(ours[1:]), f"new real pictures are not the best in {key}: {rows}"
        assert ours[2] == min(ours) and theirs[2] == min(theirs), f"shuffled tiles are not the worst in {key}: {rows}, {others}"
    for key in ("coverage", "frechet"):
        assert np.array_equal(np.argsort([r[key] for r in rows.values()]), np.argsort([r[key] for r in others.values()])), f"another order in {key}: {rows}, {others}"
    assert tiles["precision"] < real["precision"] - .25 and tiles["coverage"] < .4*real["coverage"] and tiles["frechet"] > 4*real["frechet"], f"{rows}"
    assert mush["coverage"] < real["coverage"] - .05 and mush["frechet"] > 1.5*real["frechet"], f"{rows}"
    assert real["precision"] > .85 and real["coverage"] > .9 and abs(real["density"] - 1) < .2, f"new real pictures score as real ones do: {rows}"


def test_blends_are_no_better_than_real_pictures():
    whole = Reference(*figures(500, 16, 3))
    half, i = whole.halves
    new = whole.images[i]
    blend = (new + new[::-1])/2
    real, mixed = (prdc(half.own, half.features(v)) for v in (new, blend))
    assert mixed["density"] < real["density"] and mixed["precision"] < real["precision"], f"{real}, {mixed}"


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 1), (5, 3, 2), (13, 31, 3), (40, 24, 5)])
def test_features_of_any_shape(rng, shape):
    x = rng.random((30, *shape), np.float32)
    f = ShapeFeatures(x)(x)
    assert shape_and_colour(x).shape == (30, 256 + 16*shape[-1])
    assert f.shape == (30, min(29, shape_and_colour(x).shape[1])) and np.allclose((f**2).sum(1), f.shape[1], rtol=1e-3)


def test_pictures_that_are_all_alike_have_finite_features():
    x = np.full((20, 6, 6, 1), .5, np.float32)
    assert np.isfinite(ShapeFeatures(x)(np.concatenate([x, x*0]))).all()


def test_edges_of_a_ramp():
    ramp = np.tile(np.arange(7, dtype=np.float32)[:, None, None]/10, (2, 1, 5, 1)) # brighter downwards
    expected = np.maximum(.1*np.sin(np.arange(8)*np.pi/4), 0)
    assert np.allclose(edges(ramp)[:, 3, 2], expected, atol=1e-6)


@pytest.mark.parametrize("rows, cols", [(1, 1), (2, 3), (4, 4), (6, 10), (9, 11)])
def test_cells_keep_the_mean(rng, rows, cols):
    x = rng.random((3, 6, 10, 2), np.float32)
    assert np.allclose(in_cells(x, rows, cols).mean((1, 2)), x.mean((1, 2)), atol=1e-6)
    if (rows, cols) == (6, 10): assert np.array_equal(in_cells(x, rows, cols), x)


def test_tiles_are_shuffled_and_nothing_else(rng):
    x = rng.random((5, 9, 10, 2), np.float32)
    y = shuffle_tiles(x)
    assert np.array_equal(np.sort(x.reshape(5, -1)), np.sort(y.reshape(5, -1))) and np.array_equal(x[:, 8:], y[:, 8:])
    tiles = lambda v: {v[i:i + 2, j:j + 2].tobytes() for i in range(0, 8, 2) for j in range(0, 8, 2)}
    assert all(tiles(a) == tiles(b) and not np.array_equal(a, b) for a, b in zip(x, y))


def test_gaussian_has_the_mean_and_covariance_of_each_class(digit_images, digit_labels):
    draws = flat(gaussian_like(digit_images*.2 + .4, digit_labels, np.repeat([3, 7], 3000)))
    for c, some in ((3, draws[:3000]), (7, draws[3000:])):
        x = flat(digit_images[digit_labels == c]*.2 + .4)
        assert np.abs(some.mean(0) - x.mean(0)).max() < .01
        assert np.abs(np.cov(some.T) - np.cov(x.T)).max() < .15*np.cov(x.T).max()


def test_a_classifier_that_learns_nothing_says_so(drawn, digit_images, digit_labels, rng):
    dealt = drawn().evaluate(300, images=Reference(digit_images, rng.permutation(digit_labels)))
    assert any("Do not trust the accuracy" in remark and "%" in remark for remark in dealt.remarks) and dealt.remarks[-1] in str(dealt)
    with pytest.raises(ValueError, match="labels"): Reference(digit_images[:20], features="classifier").features(digit_images[:3])


def test_no_more_samples_than_new_pictures(bundled, digit_images, digit_labels):
    few, y = digit_images[:60], digit_labels[:60]
    run = replace(bundled, info=bundled.info | dict(data=fingerprint(few, False)))
    run.sample = lambda n, labels=None, **_: digit_images[900:900 + n]
    scores = run.evaluate(images=few, labels=y)
    assert {row["n"] for row in (scores, *scores.rows.values())} == {30} and any("n is 30 instead of 1024" in remark for remark in scores.remarks)
    with pytest.raises(ValueError, match="12 pictures"): Reference(digit_images[:12]).yardsticks(6)
    with pytest.raises(ValueError, match="n: got 5"): bundled.evaluate(5)


def test_the_features_of_earlier_tables(digit_images, digit_labels):
    old = digits_reference("classifier")
    assert old.own.shape == (1797, 64) and old.fit > .995
    logits = old.own @ old.fitted.net.coefs_[-1] + old.fitted.net.intercepts_[-1]
    assert np.array_equal(logits.argmax(1), old.fitted.named(digit_images))


def test_labels_come_in_the_digits_own_proportions(digit_labels):
    share = np.bincount(digit_labels)/1797
    assert np.array_equal(np.bincount(proportional_labels(1797)), np.bincount(digit_labels))
    assert np.abs(np.bincount(proportional_labels(500))/500 - share).max() < .003
    with pytest.raises(ValueError, match="pictures without labels"): proportional_labels(5, Reference(np.zeros((9, 8, 8))))


def test_own_pictures_score_as_the_digits_do(drawn, usual, digit_images, digit_labels):
    own = drawn().evaluate(300, images=digit_images, labels=digit_labels)
    assert dict(own) == dict(usual) and own.rows == usual.rows
    reference = own.reference
    assert dict(drawn().evaluate(300, images=reference)) == dict(usual)
    streamed = drawn(streamed=True, data=fingerprint(digit_images, True))
    assert dict(streamed.evaluate(300, images=reference)) == dict(usual)


def test_pictures_without_labels_are_scored_too(drawn, usual, digit_images):
    blind = drawn(classes=None).evaluate(300, images=digit_images)
    assert list(blind) == [k for k in usual if k != "accuracy"] and list(blind.real) == list(blind)
    assert blind.real["precision"] > .9 and blind["coverage"] > .6 and blind.rows["shuffled tiles"]["precision"] < .05, f"{blind}"


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
