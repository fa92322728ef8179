"""Seconds for 1024 pictures, after compiling, and their quality: the default, the random walk of 1000 steps, and PyTorch's U-Nets with 20 steps of DDIM.

    python benchmarks/sampling.py

The rivals' networks are not trained here: how long they take does not depend on it. (quality.py trains one.)
"""
import sys
import time

from common import Worker, race, save, serve

walks = {"default": {}, "ancestral": dict(sampler="ddpm", steps=1000, spacing="uniform", guidance=1.)}


def ours(name):
    "The model that comes with the package."
    import unetdiff
    run = unetdiff.load()
    run.sample(64, **walks[name]).block_until_ready()
    def work():
        start = time.perf_counter()
        run.sample(1024, **walks[name]).block_until_ready()
        return time.perf_counter() - start
    said = run.evaluate(1024, **walks[name])
    plan = run.plan(*(walks[name].get(k) for k in ("steps", "sampler", "spacing", "guidance")))
    serve(said | dict(evaluations=(len(plan.at.t) - 1)*(2 if plan.guidance != 1 else 1)), work)


def theirs(name):
    "20 steps of DDIM, 64 pictures at a time."
    import torch
    import nets
    from common import cores
    torch.set_num_threads(len(cores()))
    net, call = nets.torch_net(name, 8)
    abar = torch.cumprod(1 - torch.linspace(1e-4, .02, 1000), 0)
    @torch.no_grad()
    def work():
        start = time.perf_counter()
        for _ in range(16): nets.ddim(lambda x, t: call(x, torch.full((len(x),), t)), torch.randn(64, 1, 8, 8), abar, 20)
        return time.perf_counter() - start
    serve(dict(evaluations=20), work)


def main():
    "Race, print the table, save it."
    workers = {"default": Worker(__file__, "default"), "diffusers": Worker(__file__, "diffusers"), "ddpm": Worker(__file__, "ddpm")}
    ready = {name: w.ready for name, w in workers.items()}
    seconds = race(workers, 5)
    slow = {"ancestral": Worker(__file__, "ancestral")}
    ready["ancestral"] = slow["ancestral"].ready
    seconds |= race(slow, 1)
    names = dict(default="unetdiff, default", ancestral="unetdiff, 1000 ancestral steps", diffusers="diffusers, DDIM", ddpm="denoising-diffusion-pytorch's U-Net, DDIM")
    save("sampling", [dict(name=names[n], seconds=s, **{k: v for k, v in ready[n].items() if k != "n"}) for n, s in seconds.items()])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: (ours if sys.argv[2] in walks else theirs)(sys.argv[2])
    else: main()
