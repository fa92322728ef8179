"""Networks that are hardly any, for tests in which it does not matter what is trained: they compile in a second."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def by_numpy(key, shape, dtype=np.float32, *_):
    "Weights that depend on the key, drawn without compiling."
    seed = 0 if isinstance(key, jax.core.Tracer) else np.asarray(jax.random.key_data(key))
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32)/np.sqrt(shape[0]), jnp.float32)


class Dense(nnx.Module):
    "Two layers over all pixels and the time, and over what it is told besides: labels, then a condition of any shape."
    def __init__(self, pixels, width, rngs, classes=None, condition=None):
        self.a = nnx.Linear(pixels + 1, width, kernel_init=by_numpy, rngs=rngs)
        self.b = nnx.Linear(width, pixels, kernel_init=by_numpy, rngs=rngs)
        self.condition = None if condition is None else nnx.Linear(int(np.prod(condition)), width, kernel_init=by_numpy, rngs=rngs)
        self.label = None if classes is None else nnx.Embed(classes + 1, width, embedding_init=by_numpy, rngs=rngs)

    def __call__(self, x, t, *given):
        given = iter(given)
        h = self.a(jnp.concatenate([x.reshape(x.shape[0], -1), t[:, None]/1000], -1))
        if self.label is not None: h = h + self.label(next(given))
        if self.condition is not None: h = h + self.condition(next(given).reshape(len(x), -1))
        return self.b(nnx.gelu(h)).reshape(x.shape)


class Scale(nnx.Module):
    "The least network there can be, without labels."
    def __init__(self): self.by = nnx.Param(jnp.float32(0))
    def __call__(self, x, t): return self.by[...]*x


def dense_for(recipe, channels, classes, condition=None):
    "In the place of `unetdiff.training.unet_for`: how to make a dense network for pictures of 8 x 8 pixels."
    return partial(Dense, 64*channels, 32, classes=classes, condition=condition)


class Moody(nnx.Module):
    "It keeps more than parameters: statistics of batches, and how often its dropout has drawn."
    def __init__(self): self.layers = nnx.Sequential(nnx.Linear(16, 16, rngs=nnx.Rngs(0)), nnx.Dropout(.5, rngs=nnx.Rngs(1)), nnx.BatchNorm(16, rngs=nnx.Rngs(2)))
    def __call__(self, x, t, label=None): return self.layers(x.reshape(len(x), -1)).reshape(x.shape)
