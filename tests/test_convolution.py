"""The convolutions agree with XLA's, and what they are made of is right."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetdiff.engine import convolution
from unetdiff.engine.convolution import conv_dense, conv_matmul, conv_winograd, conv_xla, taps


def arrays(shape, c_out):
    "A map and a kernel."
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, np.float32), rng.standard_normal((3, 3, shape[-1], c_out), np.float32)


@pytest.mark.parametrize("f, shape, c_out", [
    (conv_matmul, (2, 7, 5, 3), 5),
    (conv_dense, (2, 2, 2, 9), 5), (conv_dense, (2, 1, 2, 3), 5), (conv_dense, (2, 1, 1, 3), 5),
    (conv_winograd, (2, 2, 3, 2), 5),    # tiles of 2 x 2, one of them filled up
    (conv_winograd, (2, 7, 4, 9), 12),
    (conv_winograd, (2, 5, 3, 9), 1),
    (conv_winograd, (9, 10, 7, 9), 12),  # tiles of 4 x 4
    (conv_winograd, (9, 5, 12, 12), 9)]) # more channels go in than come out
def test_value_and_gradient_are_those_of_xla(f, shape, c_out):
    args = arrays(shape, c_out)
    ours, xla = (jax.tree.leaves(jax.jit(jax.value_and_grad(lambda x, k, way=way: (way(x, k)**2).mean(), (0, 1)))(*args)) for way in (f, conv_xla))
    error = max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(ours, xla))
    assert error < 1e-4, f"{f.__name__} disagrees with XLA on {shape} by {error}"


@pytest.mark.parametrize("c_out", [6, 9])
def test_gradient_of_the_gradient_is_that_of_xla(c_out):
    args = arrays((2, 5, 5, 8), c_out)
    def penalty(f): return lambda x, k: (jax.grad(lambda x: jnp.tanh(f(x, k)).mean())(x)**2).sum()
    ours, xla = (jax.jit(jax.grad(penalty(f), 1))(*args) for f in (conv_winograd, conv_xla))
    assert np.abs(np.asarray(ours - xla)).max() < 1e-3*np.abs(np.asarray(xla)).max()


def test_taps_that_see_a_pixel(): assert [len(taps(*size)) for size in [(8, 8), (2, 2), (1, 1), (1, 5)]] == [9, 9, 1, 3]


def test_matrices_are_the_published_ones():
    "F(2, 3) and F(4, 3) of Lavin and Gray 2015, section 4, but for a factor that moves between rows of B^T and G."
    for points, A_T, G, B_T in [
        ((0, 1, -1), [[1, 1, 1, 0], [0, 1, -1, 1]], [[1, 0, 0], [.5, .5, .5], [.5, -.5, .5], [0, 0, 1]], [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]),
        ((0, 1, -1, 2, -2), [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
         [[1/4, 0, 0], [-1/6, -1/6, -1/6], [-1/6, 1/6, -1/6], [1/24, 1/12, 1/6], [1/24, -1/12, 1/6], [0, 0, 1]],
         [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])]:
        ours = convolution._winograd_matrices(*points)
        np.testing.assert_allclose(ours[2], A_T, atol=1e-12)
        for i in range(len(points) + 1): np.testing.assert_allclose(np.outer(ours[1][i], ours[0][i]), np.outer(G[i], B_T[i]), atol=1e-12)


@pytest.mark.parametrize("n", [2, 4])
def test_transposed_transform_is_the_transpose(n):
    "<T x, v> = <x, T' v>"
    B_T, rng = convolution._matrices[n][0], np.random.default_rng(0)
    x, v = rng.normal(size=(2, 3*n + 2, 1)), rng.normal(size=(n + 2, 2, 3, 1))
    back = np.asarray(convolution._transform_input_transposed(B_T, jnp.asarray(v), 1))
    one, other = (np.asarray(convolution._transform_input(B_T, jnp.asarray(x), 1))*v).sum(), (x*back[:, :x.shape[1]]).sum()
    assert abs(one - other) < 1e-4 and not back[:, x.shape[1]:].any()


def test_tiles_and_back():
    x = np.arange(2*8*4*3.).reshape(2, 8, 4, 3)
    for n in (2, 4): np.testing.assert_array_equal(convolution._from_tiles(convolution._to_tiles(jnp.asarray(x), n)), x)
