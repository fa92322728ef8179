"""A network that is hardly one, for tests in which it does not matter what is trained: it compiles in a second."""
import jax.numpy as jnp
from flax import nnx


class Dense(nnx.Module):
    "Two layers over all pixels and the time."
    def __init__(self, pixels, width, rngs, classes=None):
        self.a = nnx.Linear(pixels + 1, width, rngs=rngs)
        self.b = nnx.Linear(width, pixels, rngs=rngs)
        self.label = None if classes is None else nnx.Embed(classes + 1, width, rngs=rngs)

    def __call__(self, x, t, label=None):
        h = self.a(jnp.concatenate([x.reshape(len(x), -1), t[:, None]/1000], -1))
        if label is not None: h = h + self.label(label)
        return self.b(nnx.gelu(h)).reshape(x.shape)
