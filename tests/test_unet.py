"""Layers and network: shapes, values next to references, and what is refused."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unetdiff.engine.convolution import conv_xla
from unetdiff.unet import (ResBlock, SelfAttention, TimeEmbedding, UNet, UNetBlock, check_network, conv, count_params, downsample, init, sinusoidal, unet_arguments,
                           upsample)

rng = np.random.default_rng(0)
shape_of = lambda build, *args: nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))(*args)).shape
run = nnx.jit(lambda model, *args: model(*args))


def normal(*shape): return rng.standard_normal(shape, np.float32)


def test_shapes_of_the_layers():
    x, e = np.ones((2, 8, 8, 3), np.float32), np.ones((2, 128), np.float32)
    assert shape_of(partial(TimeEmbedding, 128), np.ones(3, np.float32)) == (3, 128)
    assert shape_of(partial(ResBlock, 3, 16), x) == (2, 8, 8, 16)
    assert shape_of(partial(UNetBlock, 3, 16, emb=128, attend=True), x, e) == (2, 8, 8, 16)
    assert shape_of(partial(UNetBlock, 3, 16), x, None) == (2, 8, 8, 16)


def test_weights_spread_as_flax_draws_them():
    ours, flax = init(partial(conv, 16, 16)), conv(16, 16, rngs=nnx.Rngs(0))
    assert abs(np.asarray(ours.kernel[...]).std() - np.asarray(flax.kernel[...]).std()) < 5e-3


@pytest.mark.parametrize("heads", [4, 1])
def test_attention_is_that_of_jax(heads):
    model, x = init(partial(SelfAttention, 32, heads=heads, plain=heads == 1)), normal(2, 4, 4, 32)
    def reference(model, x):
        q, k, v = (f(x).reshape(2, 16, heads, 32//heads) for f in (model.q, model.k, model.v))
        h = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        return x + (h if model.out is None else model.out(h))
    error = np.abs(np.asarray(run(model, x)) - np.asarray(nnx.jit(reference)(model, x))).max()
    assert error < 1e-5, f"attention differs from JAX's own by {error}"


def test_parameters_of_plain_attention(): assert count_params(init(partial(SelfAttention, 32, plain=True))) == 3*(32*32 + 32)


def test_downsample_takes_the_largest_of_four():
    assert [downsample(np.ones((1, h, w, 1), np.float32)).shape[1:3] for h, w in [(6, 1), (7, 5), (1, 1)]] == [(3, 1), (4, 3), (1, 1)]
    odd = normal(1, 3, 5, 1)
    expected = [[odd[0, i:i+2, j:j+2].max() for j in (0, 2, 4)] for i in (0, 2)]
    assert (np.asarray(downsample(odd))[0, :, :, 0] == expected).all(), "an odd side should repeat its last pixels"
    assert float(downsample(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)).squeeze()) == 3


def test_upsample_repeats_and_crops():
    four = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    assert upsample(np.ones((1, 4, 3, 1), np.float32), 7, 5).shape == (1, 7, 5, 1)
    assert (np.asarray(upsample(four, 4, 4))[0, ..., 0] == np.kron(four[0, ..., 0], np.ones((2, 2)))).all()


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (1, 16, 12, 3), (3, 9, 5, 2)])
def test_pictures_of_any_size_and_channels(shape):
    build = partial(UNet, shape[-1], 2*shape[-1], 8, 32, channel_mults=(1, 2), attention_levels=(1,))
    assert shape_of(build, np.zeros(shape, np.float32), np.zeros(shape[0], np.float32)) == shape[:-1] + (2*shape[-1],)


def test_pictures_with_odd_sides_have_a_gradient():
    x, t = np.zeros((3, 9, 7, 1), np.float32), np.zeros(3, np.float32)
    graph, params = nnx.split(nnx.eval_shape(lambda: UNet(1, 1, 8, channel_mults=(1,), attention_levels=(), rngs=nnx.Rngs(0))), nnx.Param)
    gradient = jax.eval_shape(jax.grad(lambda p: jnp.mean(nnx.merge(graph, p)(x, t)**2)), params)
    assert [a.shape for a in jax.tree.leaves(gradient)] == [a.shape for a in jax.tree.leaves(params)]


def test_bfloat16_rounds_and_keeps_32_bits_in_parameters():
    small = partial(UNet, 1, 1, 16, channel_mults=(1,), attention_levels=(), classes=10)
    exact, half = init(small), init(partial(small, dtype="bfloat16"))
    inputs = normal(4, 8, 8, 1), np.linspace(0, 999, 4, dtype=np.float32), np.arange(4)
    assert {str(p.dtype) for p in jax.tree.leaves(nnx.state(half, nnx.Param))} == {"float32"}
    a, b = run(exact, *inputs), run(half, *inputs)
    assert b.dtype == jnp.float32
    difference = np.abs(np.asarray(a) - np.asarray(b)).mean()/np.abs(np.asarray(a)).mean()
    assert 1e-6 < difference < .02, f"bfloat16 should differ by its rounding, and by no more, not by {difference:.1%}"
    products = [e.outvars[0].aval for e in jax.make_jaxpr(lambda m: m(*inputs))(half).eqns if e.primitive.name == "dot_general"]
    assert {str(p.dtype) for p in products if p.ndim == 4 and p.shape[-1] == 16} == {"bfloat16"}


def test_classical_shape_on_8_x_8_leaves_eight_arrays_without_gradient(monkeypatch):
    "Queries and keys of the attention over a single position; everything else learns."
    monkeypatch.setattr("unetdiff.unet.conv3x3", lambda x, kernel, *args, **kwargs: conv_xla(x, kernel)) # the quickest to compile
    graph, params = nnx.split(init(partial(UNet, 1, 1, 4, plain_attention=True, time_everywhere=False)), nnx.Param)
    x, t = normal(4, 8, 8, 1), np.linspace(0, 999, 4, dtype=np.float32)
    quickly = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    gradient = jax.jit(jax.grad(lambda p: jnp.mean((nnx.merge(graph, p)(x, t) - jnp.sin(9*x))**2)), compiler_options=quickly)(params)
    still = {jax.tree_util.keystr(path, simple=True, separator=".") for path, g in jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(gradient))[0] if not np.asarray(g).any()}
    assert still == {f"{block}.attention.{w}.{p}" for block in ("down3", "bridge1") for w in "qk" for p in ("kernel", "bias")}


@pytest.mark.parametrize("call, said", [(lambda: UNet(1, 1, 8, 7, rngs=nnx.Rngs(0)), "time_emb_dim: got 7"), (lambda: SelfAttention(30, heads=4, rngs=nnx.Rngs(0)), "heads: got 4"),
                                        (lambda: UNet(1, 1, 8, channel_mults=(), rngs=nnx.Rngs(0)), r"channel_mults: got \(\), but takes whole numbers from 1, one for each level"),
                                        (lambda: UNet(1, 1, 8, channel_mults=(1, 0), rngs=nnx.Rngs(0)), r"channel_mults: got \(1, 0\)"),
                                        (lambda: UNet(1, 1, 8, attention_levels=2, rngs=nnx.Rngs(0)), "attention_levels: got 2, but takes numbers of levels, counted from 0"),
                                        (lambda: sinusoidal(np.float32(3), 8), r"t: got shape \(\)"), (lambda: sinusoidal(np.array(["a"]), 8), "t: got array"), (lambda: init(3), "build: got 3"),
                                        (lambda: check_network(nnx.eval_shape(lambda: UNet(1, 2, 8, channel_mults=(1,), rngs=nnx.Rngs(0))), (8, 8, 1), None), "model: got output of shape")])
def test_wrong_arguments_are_refused(call, said):
    with pytest.raises(ValueError, match=said): call()


def test_what_a_recipe_may_set():
    assert set(unet_arguments) == {"features", "time_emb_dim", "channel_mults", "attention_levels", "heads", "plain_attention", "time_everywhere", "patch_size", "dropout", "ends"}
