"""Quality of 1024 digits after 30, 60 and 120 seconds, start of the process and compiling included: unetdiff against diffusers on the same cores.

    python benchmarks/quality.py

unetdiff plans its learning rate over the steps that fit; how many do, one short run tells. The rival trains as long as it may, with AdamW at 1e-3,
an average of its weights, and is sampled by DDIM in 20 steps. It knows no labels, so its samples have no accuracy.
"""
import json
import resource
import subprocess
import sys
import time

from common import save

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
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    abar, x, steps = torch.cumprod(1 - torch.linspace(1e-4, .02, 1000), 0), torch.tensor(train.transpose(0, 3, 1, 2)*2 - 1), 0
    while time.time() - start < budget - 8:  # sampling and its start take about that long
        x_0, t = x[torch.randint(len(x), (64,))], torch.randint(1000, (64,))
        eps, a = torch.randn_like(x_0), abar[t][:, None, None, None]
        loss = ((call(a.sqrt()*x_0 + (1 - a).sqrt()*eps, t) - eps)**2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        keep = min(.999, (1 + steps)/(10 + steps))
        with torch.no_grad():
            for k, v in net.state_dict().items(): averaged[k].mul_(keep).add_(v, alpha=1 - keep)
    net.load_state_dict(averaged)
    with torch.no_grad(): drawn = torch.cat([nets.ddim(lambda x, t: call(x, torch.full((len(x),), t)), torch.randn(64, 1, 8, 8), abar, 20) for _ in range(16)])
    took, memory = time.time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**10
    drawn = (drawn.numpy().transpose(0, 2, 3, 1) + 1)/2
    return dict(seconds=took, steps=steps, memory_mib=memory) | quality(np.clip(drawn, 0, 1), None, real, train)


def cold(who, amount):
    "One of them in a process of its own, timed from before it starts."
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--worker", who, str(amount), str(time.time())], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    "Each budget for each of them."
    rows, short, long = [], cold("ours", 200), cold("ours", 800)
    a_step = (long["trained"] - short["trained"])/600
    overhead = long["seconds"] - 800*a_step
    for budget in budgets:
        steps = max(100, int((budget - overhead)/a_step)//100*100)
        rows += [dict(name="unetdiff", budget=budget, **cold("ours", steps)), dict(name="diffusers", budget=budget, **cold("theirs", budget))]
        print(rows[-2:], flush=True)
    save("quality", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        who, amount, start = sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
        print(json.dumps((ours if who == "ours" else theirs)(start, amount)))
    else: main()
