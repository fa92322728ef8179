"""Digits, ranges, splits, batches and grids of pictures: what they take, refuse and give."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from test_arguments import refuses

from unetdiff import digits, show_images
from unetdiff.data import batch_at, draw_batch, hide, from_range, hold_back, split, to_range
from unetdiff.engine.sources import Pictures, pictures

tiles = np.ones((4, 4, 4, 1))*np.array([0, .25, .75, 7.]).reshape(4, 1, 1, 1)


def test_one_grey_scale_for_all_pictures():
    fig = show_images(tiles, cols=3)
    assert len(fig.axes) == 6
    assert fig.axes[3].images[0].get_clim() == (0, 1), "black is 0 and white is 1, whatever is drawn"
    assert np.asarray(fig.axes[3].images[0].get_array()).max() == 1, "what is too bright is white"


@pytest.mark.parametrize("name, bad", [("titles", ["a"]), ("titles", "abcd"), ("cols", 0), ("size", 0), ("interpolation", "x")])
def test_grid_refuses(name, bad):
    refuses(lambda: show_images(tiles, **{name: bad}), f"{name}: got")


def test_two_channels_are_drawn_by_their_mean():
    drawn = show_images(np.stack([np.zeros((1, 4, 4)), np.ones((1, 4, 4))], -1)).axes[0].images[0].get_array()
    assert drawn.shape == (4, 4) and (drawn == .5).all()


def test_one_digit():
    ones, labels = digits(1)
    assert ones.shape == (182, 8, 8, 1) and ones.dtype == np.float32 and isinstance(ones, jax.Array)
    x = np.asarray(ones)
    assert (x.min(), x.max()) == (0, 1) and set(np.asarray(labels).tolist()) == {1}


@pytest.mark.parametrize("bad", [10, -1, "1", 1.5, True])
def test_digits_refuses(bad):
    refuses(lambda: digits(bad), "digit: got")


def test_range_there_and_back(digit_images):
    np.testing.assert_allclose(from_range(to_range(digit_images, 0, 3), 0, 3), digit_images, atol=1e-6)
    assert float(from_range(jnp.float32(9.))) == 1, "what lies outside is clipped"
    assert float(to_range(np.float32(1.), jnp.float32(0), jnp.float32(2))) == 2, "ends may be JAX scalars"


@pytest.mark.parametrize("ends", [(1, -1), (0, 0), ("a", 1), (0, np.nan), (None, 1)])
def test_range_refuses(ends):
    for f in (to_range, from_range): refuses(lambda: f(np.zeros(3), *ends), "lo, hi: got")
    refuses(lambda: to_range("x"), "images: got")


def test_split_is_scikit_learns(digit_images, digit_labels):
    ones = digit_images[digit_labels == 1]
    a, b = train_test_split(load_digits().images[load_digits().target == 1]/16, test_size=.05, random_state=42)
    train, test, *_ = split(ones)
    np.testing.assert_array_equal(test[..., 0], b.astype("float32"))
    np.testing.assert_array_equal(train[..., 0], a.astype("float32"))


def test_split_refuses_and_manages_with_few(digit_images):
    refuses(lambda: split(digit_images[:1]), "at least 2")
    refuses(lambda: split(digit_images[:3], test_size=.9), "test_size: got 0.9")
    refuses(lambda: split("x"), "images: got 0 picture(s) in a str")
    assert len(split(digit_images[:3], np.array([0, 1, 2]))[1]) == 1, "too few to stratify: a plain split"
    assert isinstance(split(digit_images[:3], [0, 1, 2])[2], np.ndarray), "labels may be a list"


def test_batch_depends_on_the_key_alone(digit_images, digit_labels):
    key, x, y = jax.random.key(0), jnp.asarray(digit_images[:40]), jnp.asarray(digit_labels[:40])
    batch, labels = draw_batch(key, x, y, 8)
    assert batch.shape == (8, 8, 8, 1) and labels.shape == (8,)
    compiled, _ = jax.jit(draw_batch, static_argnums=3)(key, x, y, 8)
    np.testing.assert_array_equal(batch, compiled)
    assert draw_batch(key, x)[0] is x, "no batch size: all pictures"


def test_batch_from_a_stream():
    rows, labels = np.arange(2*3*4, dtype=np.uint8).reshape(2, 3, 2, 2, 1)*11, np.arange(6).reshape(2, 3)
    x, y = batch_at(1, None, rows, labels, 3, (-1., 1.))
    assert x.dtype == np.float32 and y.tolist() == [3, 4, 5]
    np.testing.assert_allclose(x, rows[1]/127.5 - 1, atol=1e-6)
    same, none = batch_at(1, None, rows/np.float32(255), None, 3, (-1., 1.))
    np.testing.assert_allclose(same, x, atol=1e-6)
    assert none is None


def test_hidden_labels():
    labels = jnp.arange(1000) % 10
    hidden = np.asarray(hide(jax.random.key(0), labels, .3, 10))
    assert .25 < (hidden == 10).mean() < .35
    assert (hidden[hidden < 10] == np.asarray(labels)[hidden < 10]).all(), "the others stay as they are"
    assert hide(None, None, .3, 10) is None


@pytest.mark.filterwarnings("ignore:batch_size")
def test_hold_back(digit_images, digit_labels):
    (x, held_x, (y, _), (held_y, _)), (to_look_at, (labels, _)) = hold_back(digit_images, (digit_labels, None), .05, (-1., 1.))
    assert (len(x), len(held_x), len(to_look_at)) == (1707, 90, 64) == (len(y), len(held_y), len(labels))
    assert (x.min(), held_x.max(), to_look_at.min()) == (-1, 1, 0)
    np.testing.assert_allclose(from_range(held_x[:64]), to_look_at, atol=1e-6)
    (x, *_), _ = hold_back(digit_images[:21], (None, None), .05, (-1., 1.), parts=3)
    assert len(x) % (3*jax.device_count()) == 0 or len(x) == 19, "the devices should share them evenly"
    streamed = hold_back(pictures(digit_images[:21]), (None, None), .05, (-1., 1.))[0][0]
    assert isinstance(streamed, Pictures) and len(streamed) == 19
