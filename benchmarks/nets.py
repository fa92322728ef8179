"""The U-Net that diffusers builds for small pictures, layer for layer, from this project's parts; the PyTorch rivals themselves; and how each is trained."""
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from common import timed
from unetdiff.engine import convolution
from unetdiff.engine.convolution import taps
from unetdiff.engine.devices import layout_for, place
from unetdiff.training import Recipe, TrainState, train_steps
from unetdiff.unet import conv, init, quick_attention, sinusoidal, upsample

widths, groups, head = (32, 64), 8, 8  # width of each level, groups of a norm, width of an attention head


class GroupNorm(nnx.Module):
    "Mean 0 and variance 1 in each group of channels; all sums are matrix products."
    def __init__(self, c, rngs):
        self.scale, self.bias = nnx.Param(jnp.ones(c)), nnx.Param(jnp.zeros(c))

    def __call__(self, x):
        B, H, W, C = x.shape
        share = np.kron(np.eye(groups), np.full((C//groups,)*2, groups/C/H/W)).astype(np.float32)
        total = lambda v: (jnp.ones((1, H*W)) @ v.reshape(B, H*W, C))[:, 0] @ share
        mean, square = total(x), total(x*x)
        scale = self.scale[...]*jax.lax.rsqrt(square - mean**2 + 1e-5)
        return x*scale[:, None, None] + (self.bias[...] - mean*scale)[:, None, None]


class ResBlock(nnx.Module):
    "(norm - SiLU - conv) twice, the time in between, plus a shortcut."
    def __init__(self, c_in, c_out, emb, rngs):
        self.norm1, self.conv1 = GroupNorm(c_in, rngs), conv(c_in, c_out, rngs=rngs)
        self.emb = nnx.Linear(emb, c_out, rngs=rngs)
        self.norm2, self.conv2 = GroupNorm(c_out, rngs), conv(c_out, c_out, rngs=rngs)
        self.shortcut = None if c_in == c_out else nnx.Linear(c_in, c_out, rngs=rngs)

    def __call__(self, x, e):
        h = self.conv1(nnx.silu(self.norm1(x))) + self.emb(nnx.silu(e))[:, None, None]
        h = self.conv2(nnx.silu(self.norm2(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class Attention(nnx.Module):
    "Self-attention over positions."
    def __init__(self, c, rngs):
        self.norm = GroupNorm(c, rngs)
        self.q, self.k, self.v, self.out = (nnx.Linear(c, c, rngs=rngs) for _ in range(4))

    def __call__(self, x):
        B, H, W, C = x.shape
        h = self.norm(x)
        q, k, v = (f(h).reshape(B, H*W, C//head, head) for f in (self.q, self.k, self.v))
        with jax.named_scope("attention"): h = quick_attention(q, k, v) # `breakdown.py` finds it by this name
        return x + self.out(h.reshape(x.shape))


class HalfConv(nnx.Module):
    "A 3 x 3 convolution at every second pixel."
    def __init__(self, c, rngs): self.layer = conv(c, c, rngs=rngs)

    def __call__(self, x):
        _, H, W, _ = x.shape
        kernel, padded = self.layer.kernel[...], jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        copies = [padded[:, i:i+H:2, j:j+W:2] for i, j in taps(H, W)]
        return jnp.concatenate(copies, -1) @ jnp.concatenate([kernel[i, j] for i, j in taps(H, W)]) + self.layer.bias[...]


class SameShape(nnx.Module):
    "diffusers' `UNet2DModel` with one layer a block, Down + AttnDown, for pictures of so many channels."
    def __init__(self, rngs, channels=1):
        a, b = widths
        emb = 4*a
        self.time1, self.time2 = nnx.Linear(a, emb, rngs=rngs), nnx.Linear(emb, emb, rngs=rngs)
        self.conv_in = conv(channels, a, rngs=rngs)
        self.down1, self.half = ResBlock(a, a, emb, rngs), HalfConv(a, rngs)
        self.down2, self.down2_attention = ResBlock(a, b, emb, rngs), Attention(b, rngs)
        self.mid1, self.mid_attention, self.mid2 = ResBlock(b, b, emb, rngs), Attention(b, rngs), ResBlock(b, b, emb, rngs)
        self.up1, self.up1_attention = ResBlock(b + b, b, emb, rngs), Attention(b, rngs)
        self.up2, self.up2_attention = ResBlock(b + a, b, emb, rngs), Attention(b, rngs)
        self.double = conv(b, b, rngs=rngs)
        self.up3, self.up4 = ResBlock(b + a, a, emb, rngs), ResBlock(a + a, a, emb, rngs)
        self.norm, self.head = GroupNorm(a, rngs), conv(a, channels, rngs=rngs)

    def __call__(self, x, t):
        e = self.time2(nnx.silu(self.time1(sinusoidal(t, widths[0]))))
        s1 = self.conv_in(x)
        s2 = self.down1(s1, e)
        s3 = self.half(s2)
        s4 = self.down2_attention(self.down2(s3, e))
        h = self.mid2(self.mid_attention(self.mid1(s4, e)), e)
        h = self.up1_attention(self.up1(jnp.concatenate([h, s4], -1), e))
        h = self.up2_attention(self.up2(jnp.concatenate([h, s3], -1), e))
        h = self.double(upsample(h, *x.shape[1:3]))
        h = self.up3(jnp.concatenate([h, s2], -1), e)
        h = self.up4(jnp.concatenate([h, s1], -1), e)
        return self.head(nnx.silu(self.norm(h)))


def noise_recipe(batch, steps):
    "The rivals' way: predict the noise of a linear schedule, all times alike, no average."
    return Recipe(prediction="eps", schedule="linear", time_sampler="uniform", averaging=None, batch_size=batch, log_every=steps)


def trainer(build, recipe, optimizer, x):
    "How `train` starts: the model, the state and data on all devices, and `recipe.log_every` steps as a function of the state."
    graph, params, rest = nnx.split(init(build), nnx.Param, ...)
    layout = layout_for(recipe.batch_size)
    first = lambda params, rest: TrainState(params, (params,)*len(recipe.exponents), optimizer.init(params), rest)
    state = layout.start(first, params, rest)
    x, key = place((x, jax.random.key(0)), layout.everywhere)
    steps = partial(train_steps, graph=graph, recipe=recipe, optimizer=optimizer, hidden=None, layout=layout)
    return nnx.merge(graph, params, rest), state, (steps, (0, recipe.log_every, x, None, key))


def use_plain_convolutions():
    "XLA's convolutions everywhere, in place of this project's."
    convolution.conv_cpu = convolution.conv_xla


def timed_steps(state, train, args):
    "A function that goes on training for `recipe.log_every` steps, compiled already, and tells how many seconds they took."
    def work():
        nonlocal state
        state, loss = train(state, *args)
        loss.block_until_ready()
    work()
    return timed(work)


def torch_net(name, size, channels=1):
    "A rival: (its network, how to call it)."
    if name == "diffusers":
        from diffusers import UNet2DModel
        net = UNet2DModel(sample_size=size, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=widths, norm_num_groups=groups,
                          down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))
        return net, lambda x, t: net(x, t).sample
    from denoising_diffusion_pytorch import Unet
    net = Unet(dim=widths[0], dim_mults=(1, 2), channels=channels)
    return net, net


def torch_abar():
    "The rest of the signal at each of the linear schedule's thousand times."
    import torch
    return torch.cumprod(1 - torch.linspace(1e-4, .02, 1000), 0)


def torch_step(net, call, x, batch):
    "One training step as PyTorch users write it, as a function; x are pictures [N, H, W, C] in [0, 1]."
    import torch
    x, abar = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)*2 - 1), torch_abar()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    def step():
        x_0, t = x[torch.randint(len(x), (batch,))], torch.randint(1000, (batch,))
        eps, a = torch.randn_like(x_0), abar[t][:, None, None, None]
        loss = ((call(a.sqrt()*x_0 + (1 - a).sqrt()*eps, t) - eps)**2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss
    return step


def direct_operations(model, shape):
    "Floating-point operations of one picture forward, as direct convolutions, taps on padding left out."
    def inside(n_in, n_out, k, stride, pad): return sum(0 <= i*stride - pad + j < n_in for i in range(n_out) for j in range(k))
    def count(jaxpr):
        total = 0
        for e in jaxpr.eqns:
            a, b = [v.aval for v in e.invars[:2]] if len(e.invars) > 1 else (None, None)
            if e.primitive.name == "dot_general":
                (contract, _), _ = e.params["dimension_numbers"]
                total += 2*e.outvars[0].aval.size*int(np.prod([a.shape[i] for i in contract]))
            elif e.primitive.name == "conv_general_dilated":
                out = e.outvars[0].aval.shape
                places = [inside(a.shape[1 + i], out[1 + i], b.shape[i], e.params["window_strides"][i], e.params["padding"][i][0]) for i in (0, 1)]
                total += 2*places[0]*places[1]*b.shape[2]*b.shape[3]*out[0]
            elif e.primitive.name == "cond": total += count(e.params["branches"][0].jaxpr)
            else: total += sum(count(getattr(p, "jaxpr", p)) for p in e.params.values() if hasattr(getattr(p, "jaxpr", p), "eqns"))
        return total
    graph, state = nnx.split(model)
    ours = convolution.conv_cpu
    use_plain_convolutions()
    try: jaxpr = jax.jit(lambda x, t: nnx.merge(graph, state)(x, t)).trace(jnp.zeros((1, *shape)), jnp.zeros(1)).jaxpr
    finally: convolution.conv_cpu = ours
    return count(jaxpr.jaxpr)


def torch_trained(name, x, until, batch=64):
    "How to call a rival, trained on these pictures until that time, with the average of its weights; and how many steps it took."
    import torch
    torch.manual_seed(0)
    net, call = torch_net(name, x.shape[1], x.shape[-1])
    averaged = {k: v.clone() for k, v in net.state_dict().items()}
    step, steps = torch_step(net, call, x, batch), 0
    while time.time() < until:
        step()
        steps += 1
        keep = min(.999, (1 + steps)/(10 + steps))
        with torch.no_grad():
            for k, v in net.state_dict().items(): averaged[k].mul_(keep).add_(v, alpha=1 - keep)
    net.load_state_dict(averaged)
    return call, steps


def torch_samples(call, shape=(8, 8, 1), n=1024, steps=20):
    "`n` pictures `[n, *shape]` in [0, 1] by DDIM from pure noise, 64 at a time, for a PyTorch network that predicts the noise."
    import torch
    abar = torch_abar()
    at = [round(i*(len(abar) - 1)/(steps - 1)) for i in reversed(range(steps))]
    def draw(x):
        for i, t in enumerate(at):
            a, b = abar[t], abar[at[i + 1]] if i + 1 < steps else abar[0]*0 + 1
            eps = call(x, torch.full((len(x),), t))
            x = b.sqrt()*((x - (1 - a).sqrt()*eps)/a.sqrt()).clamp(-1, 1) + (1 - b).sqrt()*eps
        return x
    H, W, C = shape
    with torch.no_grad(): drawn = torch.cat([draw(torch.randn(64, C, H, W)) for _ in range(n//64)])
    return np.clip((drawn.numpy().transpose(0, 2, 3, 1) + 1)/2, 0, 1)
