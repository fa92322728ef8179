"""Quality of 1024 digits after 30, 60 and 120 seconds, start of the process and compiling included: unetdiff against PyTorch on the same cores.

    python benchmarks/quality.py

The default, which knows labels, is trained as it stands, and for as many steps as fit into each budget. So that nothing but the training differs, 60 seconds go to unconditional models as well: unetdiff with its own
U-Net, unetdiff with the U-Net of diffusers built from its parts, diffusers, and denoising-diffusion-pytorch's U-Net. unetdiff plans its learning rate over the steps
that fit; how many do, two short runs tell. The rivals train as long as they may, with AdamW at 1e-3, an average of their weights, and are sampled by DDIM in 20 steps.
"""
import json
import sys
import time

import unetdiff
from common import cold, memory, save, scores

budgets = (30, 60, 120)
names = {"default": "unetdiff", "unlabelled": "unetdiff, no labels", "same": "unetdiff, diffusers' U-Net, no labels", "diffusers": "diffusers", "ddpm": "denoising-diffusion-pytorch"}


def ours(start, kind, steps):
    "Train so many steps, sample, score; how long it took."
    from unetdiff.metrics import proportional_labels
    images, labels = unetdiff.digits()
    model = None
    if kind == "same":
        import nets
        model = unetdiff.unet.init(nets.SameShape)
    run = unetdiff.train(images, labels if kind == "default" else None, model=model, steps=steps, progress=False)
    trained = time.time() - start
    run.sample(1024, proportional_labels(1024) if kind == "default" else None).block_until_ready()
    return dict(seconds=time.time() - start, trained=trained, steps=steps, memory_mib=memory()) | scores(run)


def theirs(start, kind, budget):
    "Train until the time is nearly up, sample, score."
    import numpy as np
    import nets
    from unetdiff.metrics import digits_reference, quality
    real, _ = unetdiff.digits()
    train = np.asarray(unetdiff.data.split(*unetdiff.digits())[0])
    call, steps = nets.torch_trained(kind, train, start + budget - (8 if kind == "diffusers" else 20))  # sampling and its start take about that long
    drawn = nets.torch_samples(call)
    took = dict(seconds=time.time() - start, steps=steps, memory_mib=memory())
    return took | quality(drawn, None, real, train, reference=digits_reference("classifier"))


def steps_in(kind):
    "How many steps fit into a budget, as a function of it, from two short runs."
    short, long = cold(__file__, kind, 200), cold(__file__, kind, 800)
    a_step = (long["trained"] - short["trained"])/600
    overhead = long["seconds"] - 800*a_step
    return lambda budget: max(100, int((budget - overhead)/a_step)//100*100)


def main():
    "Each budget for each of them."
    rows = [dict(name="unetdiff as it stands", **cold(__file__, "default", unetdiff.presets["default"].steps))]
    for kind, name in names.items():
        amount = steps_in(kind) if name.startswith("unetdiff") else lambda budget: budget
        for budget in budgets if kind == "default" else (60,):
            rows.append(dict(name=name, budget=budget, **cold(__file__, kind, amount(budget))))
            print(rows[-1], flush=True)
    save("quality", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        start, kind, amount = float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
        print(json.dumps((ours if names[kind].startswith("unetdiff") else theirs)(start, kind, amount)))
    else: main()
