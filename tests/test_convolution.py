"""The convolutions agree with XLA's, and what they are made of is right."""
import jax
import numpy as np
import pytest

from unetdiff.engine import convolution
from unetdiff.engine.convolution import conv_matmul, conv_winograd, conv_xla, taps


@pytest.mark.parametrize("f, shape", [(conv_matmul, (2, 7, 5, 3)), (conv_winograd, (2, 2, 3, 2))])
def test_value_and_gradient_are_those_of_xla(f, shape):
    rng = np.random.default_rng(0)
    args = rng.standard_normal(shape, np.float32), rng.standard_normal((3, 3, shape[-1], 5), np.float32)
    ours, xla = (jax.tree.leaves(jax.jit(jax.value_and_grad(lambda x, k, way=way: (way(x, k)**2).mean(), (0, 1)))(*args)) for way in (f, conv_xla))
    error = max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(ours, xla))
    assert error < 1e-4, f"{f.__name__} disagrees with XLA on {shape} by {error}"


def test_taps_that_see_a_pixel(): assert [len(taps(*size)) for size in [(8, 8), (2, 2), (1, 1), (1, 5)]] == [9, 9, 1, 3]


def test_transposed_transform_is_the_transpose():
    "<T x, v> = <x, T' v>"
    x, v = np.random.default_rng(1).normal(size=(2, 8, 1)), np.random.default_rng(0).normal(size=(4, 2, 3, 1))
    one = (np.asarray(jax.jit(lambda x: convolution._transform_input(x, 1))(x))*v).sum()
    other = (x*np.asarray(jax.jit(lambda v: convolution._transform_input_transposed(v, 1))(v))).sum()
    assert abs(one - other) < 1e-4
