"""Seconds for 1024 pictures, after compiling, and their quality: the default, the random walk of 1000 steps, and PyTorch's U-Nets with 20 steps of DDIM.

    python benchmarks/sampling.py

The rivals' networks are not trained here: how long they take does not depend on it. (quality.py trains one.)
"""
import sys
import time

from common import Worker, race, save, serve, timed

walks = {"default": {}, "ancestral": dict(sampler="ddpm", steps=1000, spacing="uniform", guidance=1.)}


def ours(name):
    "The model that comes with the package, and what its pictures are worth."
    import unetdiff
    from unetdiff.metrics import digits_reference, proportional_labels, quality
    run, (real, labels), asked = unetdiff.load(), unetdiff.digits(), proportional_labels(1024)
    run.sample(64, asked[:64], **walks[name]).block_until_ready()
    draw = lambda: run.sample(1024, asked, **walks[name]).block_until_ready()
    start = time.perf_counter()
    drawn = draw()
    seconds = time.perf_counter() - start
    evaluations = run.evaluations(**walks[name])
    train = unetdiff.data.split(real, labels, run.recipe.test_size)[0]
    scores = quality(drawn, asked, real, train, reference=digits_reference("classifier"))
    serve(dict(evaluations=evaluations, first=seconds) | scores, timed(draw))


def theirs(name):
    "20 steps of DDIM, 64 pictures at a time."
    import torch
    import nets
    from common import cores
    torch.set_num_threads(len(cores()))
    _, call = nets.torch_net(name, 8)
    serve(dict(evaluations=20), timed(lambda: nets.torch_samples(call)))


def main():
    "Race, print the table, save it."
    workers = {"default": Worker(__file__, "default"), "diffusers": Worker(__file__, "diffusers"), "ddpm": Worker(__file__, "ddpm")}
    ready = {name: w.ready for name, w in workers.items()}
    seconds = race(workers, 5)
    slow = Worker(__file__, "ancestral")  # minutes: once is enough
    slow.close()
    ready["ancestral"], seconds["ancestral"] = slow.ready, slow.ready["first"]
    names = dict(default="unetdiff, default", ancestral="unetdiff, 1000 ancestral steps", diffusers="diffusers, DDIM", ddpm="denoising-diffusion-pytorch's U-Net, DDIM")
    save("sampling", [dict(name=names[n], seconds=s, **{k: v for k, v in ready[n].items() if k not in ("n", "first")}) for n, s in seconds.items()])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: (ours if sys.argv[2] in walks else theirs)(sys.argv[2])
    else: main()
