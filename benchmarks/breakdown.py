"""Where a training step spends its time on one core: diffusers' architecture from this project's parts, 8 x 8 pictures, 64 at a time, and 28 x 28, 16.

    python benchmarks/breakdown.py
"""
import collections
import gzip
import json
import os
import re
import tempfile
from pathlib import Path

os.environ["JAX_NUM_CPU_DEVICES"] = "1"
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

import jax
import optax

import nets
from common import save
from training import pictures

batches = {8: 64, 28: 16}
kinds = {"convolutions: products": r"winograd.*dot_general|winograd.*transpose$", "convolutions: mixing patches and kernels": "winograd", "attention": "attention",
         "other products, and sums written as products": "dot_general|transpose$"}


def breakdown(size, steps=10):
    "Compile, run under JAX's profiler, add up the kernels by the operation that they end in."
    _, state, (train, args) = nets.trainer(nets.SameShape, nets.noise_recipe(batches[size], steps), optax.adamw(1e-3), pictures(size)*2 - 1)
    program = train.func.lower(state, *args, **train.keywords).compile()
    state, _ = jax.block_until_ready(program(state, *args))
    names = {m[1]: m[2] for m in re.finditer(r"%?([\w.\-]+) = .*?op_name=\"([^\"]*)\"", program.as_text()) if "while" not in m[1]}
    with tempfile.TemporaryDirectory() as folder:
        options = jax.profiler.ProfileOptions()
        options.host_tracer_level, options.python_tracer_level = 3, 0
        jax.profiler.start_trace(folder, profiler_options=options)
        jax.block_until_ready(program(state, *args))
        jax.profiler.stop_trace()
        events = json.loads(gzip.open(next(Path(folder).rglob("*.trace.json.gz"))).read())["traceEvents"]
    spent = collections.Counter()
    for e in events:
        if e.get("ph") == "X" and e["name"] in names:
            spent[next((kind for kind, words in kinds.items() if re.search(words, names[e["name"]])), "everything else: norms, activations, optimizer")] += e["dur"]/1000/steps
    total = sum(spent.values())
    save(f"breakdown_{size}", [dict(name=kind, milliseconds=ms, share=ms/total) for kind, ms in spent.most_common()])


if __name__ == "__main__":
    for size in batches: breakdown(size)
