"""What makes the digits' training better for the same seconds: one change at a time, each for as many steps as take 18 seconds here, three seeds.

    python benchmarks/leads.py folder

How long a step of each lead takes is timed first. Compiling is not counted. The folder keeps the times and the scores of each training, and the same command
goes on with those that are missing.
"""
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from common import Worker, cold, kept, mean_and_spread, race, save, scores, serve

from unetdiff.engine import optimizers

seconds, seeds = 18, range(3)
pixels = dict(net=dict(patch_size=1))
adamw = pixels | dict(optimizer="adamw", lr=6e-3, batch_size=32, guidance=1.3)
muon = pixels | dict(optimizer="muon", lr=.012, batch_size=64, guidance=1.4)
leads = {
    "AdamW": adamw,
    "AdamW, rate .012": adamw | dict(lr=.012),
    "AdamW, batch 64": adamw | dict(batch_size=64, lr=8e-3),
    "AdamW, batch 64, guidance 1.4": adamw | dict(batch_size=64, lr=8e-3, guidance=1.4),
    "Muon": muon,
    "Muon, guidance 1.3": muon | dict(guidance=1.3),
    "Muon, batch 32": muon | dict(batch_size=32, lr=.01),
    "Muon, batch 128": muon | dict(batch_size=128, lr=.016),
    "Muon, rate .006": muon | dict(lr=.006),
    "Muon, rate .024": muon | dict(lr=.024),
    "Muon, five rounds": muon | dict(lr=None, optimizer=partial(optimizers.muon, lr=muon["lr"], times=5)),
    "Muon, a warm-up of 2%": muon | dict(lr=None, optimizer=partial(optimizers.muon, lr=muon["lr"], warmup=.02)),
    "Muon, average over less (exponent 35)": muon | dict(averaging=35.),
    "Muon, average over more (exponent 9)": muon | dict(averaging=9.),
    "Muon, flow matching, logit-normal times": muon | dict(schedule="flow", prediction="flow", time_sampler="logit_normal"),
    "Muon, labels hidden in 5%": muon | dict(label_dropout=.05),
    "Muon, 24 features": muon | dict(net=pixels["net"] | dict(features=24)),
    "Muon, 40 features": muon | dict(net=pixels["net"] | dict(features=40)),
    "Muon, squares of 2 x 2 pixels, 48 features": muon | dict(net=dict(features=48, patch_size=2)),
}


def pace(name):
    "A worker's side: the milliseconds of a step, in each round the median of five reports."
    from unetdiff import train_digits
    def work():
        at = []
        train_digits(progress=False, log_every=40, callback=lambda *_: at.append(time.perf_counter()), steps=240, **leads[name])
        return 25*float(np.median(np.diff(at)))
    serve(name, work)


def trained(start, name, steps, seed):
    "Train, sample with the recipe's settings, score."
    from unetdiff import train_digits
    run = train_digits(seed=seed, progress=False, steps=steps, **leads[name])
    return dict(test_loss=run.metrics["test_loss"]) | scores(run, seed)


def main(folder):
    "Times, then trainings, then a table of means and of the seeds' spread."
    file = lambda name, what: folder/f"{name}-{what}.json".replace(" ", "_")
    ms = {name: kept(file(name, "time"), lambda: race({name: Worker(__file__, "pace", name)}, rounds=3)[name]) for name in leads}
    rows = []
    for name in leads:
        steps = round(1000*seconds/ms[name])
        found = [kept(file(name, seed), lambda: cold(__file__, name, steps, seed)) for seed in seeds]
        rows.append(dict(name=name, milliseconds=ms[name], steps=steps) | mean_and_spread(found) | dict(worst_coverage=min(f["coverage"] for f in found)))
        save("leads", rows)


if __name__ == "__main__":
    if sys.argv[1:3] == ["--worker", "pace"]: pace(sys.argv[3])
    elif sys.argv[1:2] == ["--worker"]: print(json.dumps(trained(float(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
    else: main(Path(sys.argv[1]))
