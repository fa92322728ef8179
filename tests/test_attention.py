"""Attention by head is attention, in value and gradient, on any machine and shared by several devices."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetdiff.engine.attention import attention_by_head
from unetdiff.unet import attention, quick_attention


def value_and_gradients(f, q, k, v):
    weights = np.cos(np.arange(q.size, dtype=np.float32)).reshape(q.shape)
    return jax.jit(lambda *a: (f(*a), *jax.grad(lambda *a: (f(*a)*weights).sum(), (0, 1, 2))(*a)))(q, k, v)


@pytest.mark.parametrize("shape, scale", [((2, 70, 3, 5), 1), ((1, 1, 1, 1), 1), ((3, 9, 1, 16), 30)])
def test_it_is_the_formula(shape, scale):
    "Scores of several hundred as well, whose exponentials no float32 holds."
    q, k, v = np.random.default_rng(0).standard_normal((3, *shape), np.float32)*np.float32(scale)
    pairs = zip(value_and_gradients(attention, q, k, v), value_and_gradients(attention_by_head, q, k, v))
    error = max(np.abs(np.asarray(a) - np.asarray(b)).max()/np.abs(np.asarray(a)).max().clip(1e-3) for a, b in pairs)
    assert error < 2e-5, f"attention by head differs by {error:.2g}"


def test_of_bfloat16_it_gives_bfloat16():
    q, k, v = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 81, 2, 8)), jnp.bfloat16)
    ours, plain = (np.asarray(f(q, k, v).astype(jnp.float32)) for f in (quick_attention, attention))
    assert quick_attention(q, k, v).dtype == jnp.bfloat16
    assert np.abs(ours - plain).max() < .05, f"off by {np.abs(ours - plain).max():.2g}"


def test_devices_share_the_pictures():
    "Each device computes its own pictures; none is sent to another."
    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    share = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    arrays = jax.device_put(np.random.default_rng(0).standard_normal((3, 2*jax.device_count(), 81, 2, 8), np.float32).swapaxes(0, 1), share)
    program = jax.jit(lambda a: attention_by_head(*a.swapaxes(0, 1))).lower(arrays).compile()
    assert not [word for word in ("all-gather", "all-to-all", "all-reduce", "collective-permute") if word in program.as_text()]
    assert program(arrays).sharding.is_equivalent_to(share, 4)


@pytest.mark.parametrize("positions, loops", [(64, False), (81, True)])
def test_one_head_after_the_other_on_large_maps_only(positions, loops):
    x = jax.ShapeDtypeStruct((1, positions, 2, 8), jnp.float32)
    assert ("while" in jax.jit(quick_attention).lower(x, x, x).as_text()) == loops
