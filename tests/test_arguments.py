"""Wrong arguments are refused in one sentence that names them; unknown ones with the nearest name."""
import jax.numpy as jnp
import numpy as np
import pytest

import unetdiff
from unetdiff import monitor, pictures
from unetdiff.diffusion import Process
from unetdiff.engine.arguments import Averaging, BatchSize, Count, Dropout, Dtype, Fraction, Function, NameOr, NonNegative, Number, PathLike, Positive, RandomKey, Range, Seed, Settings, Share, Switch, as_array, as_images, as_labels, as_mask, check, check_names, checked, choose, even_from_4, number, rising, rule_of, whole
from unetdiff.engine.checkpoints import Checkpoints

grey_bytes = np.array([[[0, 51], [102, 255]]], np.uint8)
nan, inf = np.nan, np.inf


def refuses(call, *parts, error=ValueError):
    "Is the call refused in one sentence that holds these words?"
    with pytest.raises(error) as caught: call()
    for part in parts: assert part in str(caught.value), f"{part!r} is not in {str(caught.value)!r}"


def test_sentence_names_argument_given_and_taken():
    refuses(lambda: check(False, "steps", 0, "a whole number from 1"), "steps: got 0, but takes a whole number from 1")


def test_whole_numbers():
    assert [whole(v) for v in (1, np.int64(3), 0, -1, 1.5, True, "1", None)] == [True, True] + [False]*6


def test_numbers():
    assert [number(v, 0) for v in (0, .5, np.float32(1), -1, nan, inf, True, "1", None)] == [True]*3 + [False]*6


def test_rising_pairs():
    pairs = (0, 1), (1, inf), (1, 0), (-1, 1), (nan, 1), ("a", 1), (1, None)
    assert [rising(*pair, 0, inf) for pair in pairs] == [True]*2 + [False]*5


rules = { # annotation: what it takes, what it refuses
    "Count": (Count, [1, np.int32(5)], [0, 1.5, True, "x", 2**40, [[1], [2, 3]]]),
    "Seed": (Seed, [0, 2**32 - 1], [-1, 2**32, None]),
    "Number": (Number, [-1, .5], [nan, inf, "1", 10**400]),
    "even_from_4": (even_from_4, [4, 6], [2, 5, 4.]),
    "Positive": (Positive, [1, .1], [0, -1, nan]),
    "NonNegative": (NonNegative, [0, .1], [-.1, inf]),
    "Share": (Share, [0, 1, .5], [-.1, 1.1, nan]),
    "Fraction": (Fraction, [.05], [0, 1, nan]),
    "Dropout": (Dropout, [0, .99], [1, -.1]),
    "Switch": (Switch, [True, np.bool_(False)], [1, "no", None]),
    "PathLike": (PathLike, ["a"], ["", "a\0b", 3]),
    "RandomKey": (RandomKey, [], [0, np.zeros(2, np.uint32)]),
    "Settings": (Settings, [{}], [[], None]),
    "Function": (Function, [print], ["print"]),
    "NameOr": (NameOr, ["x", print], [3, None]),
    "Dtype": (Dtype, ["float32", "bfloat16"], ["float16", jnp.float32]),
    "Range": (Range, [(-1., 1.), (0, 2.), [0., 1.]], [(1., -1.), (0., 0.), (0., nan), ("a", "b"), (0.,), "01"]),
    "BatchSize": (BatchSize, [None, 32], [0, "all"]),
    "Averaging": (Averaging, [None, 17., (17., 7.)], [-1., (), (nan,), ("a",)]),
}

@pytest.mark.parametrize("name", rules)
def test_rule(name):
    annotation, right, wrong = rules[name]
    rule = rule_of(annotation)
    assert rule_of(annotation|None) == rule, "None may be allowed beside it"
    assert [v for v in right if not rule.holds(v)] == []
    assert [v for v in wrong if rule.holds(v)] == []


@checked
def drawn(n:Count, seed:Seed=0, cols:Count=None, other=None): return n


def test_checked_lets_right_arguments_through():
    assert [drawn(3), drawn(3, cols=None), drawn(n=3, other="x")] == [3]*3


@pytest.mark.parametrize("bad", [dict(n=None), dict(n=0), dict(n=3, seed=-1), dict(n=3, cols="x"), dict(n=2**40), dict(n=[[1], [2, 3]])], ids=str)
def test_checked_names_the_wrong_argument(bad):
    refuses(lambda: drawn(**bad), f"{[*bad][-1]}: got")


def test_unknown_names():
    refuses(lambda: drawn(3, col=2), "col: got an unknown argument, but takes only those of drawn; the nearest is 'cols'", error=TypeError)
    refuses(lambda: check_names([3], [], "nothing"), "3: got", error=TypeError)


@pytest.mark.parametrize("call, of, nearest", [
    (lambda: monitor(outt="x"), "monitor", "out"),
    (lambda: pictures(grey_bytes, chanels=1), "pictures", "channels"),
    (lambda: Checkpoints("x", evry=3), "Checkpoints", "every"),
    (lambda: unetdiff.load(label_dropuot=.1), "load", "label_dropout"),
    (lambda: unetdiff.train(grey_bytes, learnin_rate=1), "train", ""),
    (lambda: unetdiff.train_digits(outt="x"), "train_digits", "out"),
    (lambda: unetdiff.train_digits(labels=[1]), "train_digits", ""), # `train` takes labels, but here the digits bring them
    (lambda: unetdiff.digits(digt=3), "digits", "digit"),
    (lambda: unetdiff.Recipe(step=3), "Recipe", "steps"),
    (lambda: Process(schedul="cosine"), "Process", "schedule"),
    (lambda: unetdiff.Recipe(net=dict(feature=8)), "UNet", "features")], ids=lambda v: v if isinstance(v, str) else "")
def test_public_functions_name_the_nearest(call, of, nearest):
    refuses(call, f"but takes only those of {of}; the nearest is '{nearest}", error=TypeError)


@pytest.mark.parametrize("method, wrong, nearest", [("sample", "guidence", "guidance"), ("evaluate", "guidence", "guidance"), ("scrub", "sampler", "samplers"),
                                                    ("animate", "labels", "label"), ("plot_sheet", "row", "rows"), ("plot_samples", "strt", "start"),
                                                    ("save", "pth", "path"), ("averaged", "sdt", "std")])
def test_methods_name_the_nearest(bundled, method, wrong, nearest):
    "Of their own arguments and of those that they hand on to `sample`, `reconstruct` or `plan`."
    refuses(lambda: getattr(bundled, method)(**{wrong: 2}), f"{wrong}: got", f"those of {method}; the nearest is '{nearest}'", error=TypeError)


def test_choose():
    table = dict(one=1, two=2)
    assert [choose(table, choice, "n") for choice in ("two", 3)] == [2, 3]
    refuses(lambda: choose(table, "three", "n"), "n: got 'three', but takes one of 'one', 'two'")
    refuses(lambda: choose(table, None, "n"), "n: got None")


@pytest.mark.parametrize("bad", [[[1], [2, 3]], "a", None, nan, [1, 2], np.zeros((0, 3))], ids=repr)
def test_as_array_refuses(bad):
    refuses(lambda: as_array(bad, "x", 2), "x: got")


def test_as_array_names_a_type_and_not_a_thousand_numbers():
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros((8, 8)), np.zeros((9, 8))]
    refuses(lambda: as_array(ragged, "x"), "x: got dtype object, but takes an array of numbers")


def test_as_images_takes_bytes_and_floats():
    x = as_images(grey_bytes)
    assert x.shape == (1, 2, 2, 1) and x.dtype == np.float32
    np.testing.assert_allclose(x[0, ..., 0], [[0, .2], [.4, 1]], atol=1e-6)
    np.testing.assert_array_equal(x, as_images(grey_bytes/255))


@pytest.mark.parametrize("bad, words", [
    (np.zeros((8, 8)), "images: got shape (8, 8)"), (np.zeros((0, 8, 8)), "not empty"), (np.full((1, 8, 8), nan), "NaN"),
    (np.full((1, 8, 8), 16.), "from 16 to 16"), (np.full((1, 8, 8), -1.), "[0, 1]"), (np.zeros((1, 8, 8), np.int64), "dtype int64")], ids=["axes", "empty", "nan", "16", "-1", "integers"])
def test_as_images_refuses(bad, words):
    refuses(lambda: as_images(bad), words)


def test_as_labels():
    assert as_labels([3, 1, 4], 3).dtype == np.int32
    refuses(lambda: as_labels([1, 2], 3), "labels: got shape (2,)")
    refuses(lambda: as_labels([.5, 1., 2.], 3), "integers")
    refuses(lambda: as_labels([-1, 1, 2], 3), "-1")
    refuses(lambda: as_labels([10**6, 1, 2], 3), "below a million")


def test_as_mask():
    images = np.zeros((3, 2, 2, 1))
    assert as_mask(np.eye(2, dtype=bool), images).shape == images.shape
    refuses(lambda: as_mask(np.eye(2), images), "known: got float64 of shape (2, 2)")
    refuses(lambda: as_mask(np.eye(3, dtype=bool), images), "known: got bool of shape (3, 3)")
