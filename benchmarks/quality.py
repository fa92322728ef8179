"""Quality of 1024 digits after 30, 60 and 120 seconds, start of the process and compiling included: unetdiff against diffusers on the same cores.

    python benchmarks/quality.py

unetdiff plans its learning rate over the steps that fit; how many do, one short run tells. The rival trains as long as it may, with AdamW at 1e-3,
an average of its weights, and is sampled by DDIM in 20 steps. It knows no labels, so its samples have no accuracy.
"""
import json
import resource
import sys
import time

from common import cold, save

budgets = (30, 60, 120)


def ours(start, steps):
    "Train so many steps, sample, score; how long it took."
    import numpy as np, unetdiff
    run = unetdiff.train_digits(steps=steps, progress=False)
    trained = time.time() - start
    asked = np.random.default_rng(0).choice(np.asarray(unetdiff.digits()[1]), 1024)
    run.sample(1024, asked).block_until_ready()
    took, memory = time.time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**10
    return dict(seconds=took, trained=trained, steps=steps, memory_mib=memory) | run.evaluate()


def theirs(start, budget):
    "Train until the time is nearly up, sample, score."
    import numpy as np, torch
    import nets, unetdiff
    from unetdiff.metrics import quality
    real, _ = unetdiff.digits()
    train = np.asarray(unetdiff.data.split(*unetdiff.digits())[0])
    torch.manual_seed(0)
    net, call = nets.torch_net("diffusers", 8)
    averaged = {k: v.clone() for k, v in net.state_dict().items()}
    step, steps = nets.torch_step(net, call, train, 64), 0
    while time.time() - start < budget - 8:  # sampling and its start take about that long
        step()
        steps += 1
        keep = min(.999, (1 + steps)/(10 + steps))
        with torch.no_grad():
            for k, v in net.state_dict().items(): averaged[k].mul_(keep).add_(v, alpha=1 - keep)
    net.load_state_dict(averaged)
    drawn = nets.torch_samples(call)
    took, memory = time.time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**10
    drawn = (drawn.numpy().transpose(0, 2, 3, 1) + 1)/2
    return dict(seconds=took, steps=steps, memory_mib=memory) | quality(np.clip(drawn, 0, 1), None, real, train)


def main():
    "Each budget for each of them."
    rows, short, long = [], cold(__file__, "ours", 200), cold(__file__, "ours", 800)
    a_step = (long["trained"] - short["trained"])/600
    overhead = long["seconds"] - 800*a_step
    for budget in budgets:
        steps = max(100, int((budget - overhead)/a_step)//100*100)
        rows += [dict(name="unetdiff", budget=budget, **cold(__file__, "ours", steps)), dict(name="diffusers", budget=budget, **cold(__file__, "theirs", budget))]
        print(rows[-2:], flush=True)
    save("quality", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        start, who, amount = float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
        print(json.dumps((ours if who == "ours" else theirs)(start, amount)))
    else: main()
