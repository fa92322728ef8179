"Flax's own rewrite of the tutorial, as `successor.py` describes it, on all ten digits; it knows no labels. It trains with this project's convolutions: the same numbers, sooner."
from functools import partial

import numpy as np

steps = dict(bronze=1000)
labelled = False


def train(images, labels, steps, seed):
    import optax
    from flax import nnx
    from successor import flow_step, in_batches, network, optimizer, tsit5
    from unetdiff.data import from_range, to_range
    from unetdiff.unet import init
    import jax, jax.numpy as jnp
    net, rngs = init(network, seed), nnx.Rngs(seed)
    tx = nnx.Optimizer(net, optimizer(steps), wrt=nnx.Param)
    x_0 = to_range(images)
    order = np.random.default_rng(seed)
    for _ in range(steps): flow_step(net, tx, x_0[order.integers(len(x_0), size=168)], rngs)
    velocity = lambda net: lambda s, y, _: net(y, jnp.full(len(y), 1000*s))
    return lambda labels, seed: from_range(in_batches(partial(tsit5, velocity), net, np.random.default_rng(seed).standard_normal((len(labels), 8, 8, 1), np.float32)))
