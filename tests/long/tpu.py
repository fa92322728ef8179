"""Compile training and sampling for TPUs that are not here, and write down what each device would compute, hold and exchange:
python tests/long/tpu.py [v5e:2x4 large train ...] (needs `pip install unetdiff[tpu]`; words pick among the programs; --quick: the default's training on all four, in a hurry, nothing is written)"""
import os
os.environ |= dict(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1", TPU_STDERR_LOG_LEVEL="3", TPU_MIN_LOG_LEVEL="3") # before JAX starts: no TPU is looked for

import importlib.metadata
import importlib.util
import json
import math
import re
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unetdiff.engine.devices import Layout
from unetdiff.sampling import sample_batch  # and gives runs their `plan`
from unetdiff.training import Recipe, Run, TrainState, optimizers, presets, train_steps, unet_for

results = Path(__file__).parents[2]/"nbs"/"data"/"tpu.json" # beside the page that shows it
chips = {"v2:2x2x1": 4, "v5e:2x4": 8, "v6e:2x4": 8, "v5e:16x16": 256} # a v2 chip has two cores, each a device of its own
large = Recipe(net=dict(features=128, channel_mults=(1, 2, 4, 5), attention_levels=(2, 3)), dtype="bfloat16", batch_size=256)
# name: recipe, shape of a picture, classes, pictures that each device holds (None: those of a step, for the tutorial's batch is all it has)
models = {"default": (replace(presets["default"], batch_size=256), (8, 8, 1), 10, 1707),
          "tutorial": (presets["tutorial"], (8, 8, 1), None, None),
          "large": (large, (64, 64, 3), 10, 10_000)}


def mesh_of(topology):
    "A mesh of devices that exist on paper."
    return Mesh(np.array(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices), "batch")

def placed(tree, mesh, *axis):
    "The shapes of these arrays, placed on the mesh as `fit` and `map_batches` place the arrays themselves."
    shape = lambda a: jax.ShapeDtypeStruct(np.shape(a), jax.dtypes.result_type(a) if not hasattr(a, "dtype") else a.dtype, sharding=NamedSharding(mesh, PartitionSpec(*axis)))
    return jax.tree.map(shape, tree)

def sizes(name, n):
    "Pictures a step and pictures held, on n devices."
    recipe, *_, held = models[name]
    batch = recipe.batch_size or (160 if 160 % n == 0 else n) # the tutorial's 160, or one a device where that does not divide
    return batch, held or batch

def network(name):
    "A model's recipe, picture and classes, and its network as shapes."
    recipe, shape, classes, _ = models[name]
    return recipe, shape, classes, nnx.eval_shape(lambda: unet_for(recipe, shape[-1], classes)(rngs=nnx.Rngs(0)))

def train_program(name, mesh):
    "`train_steps` as `fit` calls it."
    recipe, shape, classes, model = network(name)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer, N = optimizers[recipe.optimizer](recipe.steps), sizes(name, mesh.size)[1]
    state = jax.eval_shape(lambda params, rest: TrainState(params, (params,)*len(recipe.exponents), optimizer.init(params), rest), params, rest)
    images, labels = jax.ShapeDtypeStruct((N, *shape), jnp.float32), None if classes is None else jax.ShapeDtypeStruct((N,), jnp.int32)
    state, images, labels, key = placed((state, images, labels, jax.eval_shape(lambda: jax.random.key(0))), mesh)
    return train_steps.trace(state, 0, recipe.log_every, images, (labels, None), key, graph=graph, recipe=recipe, optimizer=optimizer, hidden=(classes, None), layout=Layout(mesh))

def sample_program(name, mesh):
    "`sample_batch` as `run.sample` calls it."
    recipe, shape, classes, model = network(name)
    (graph, state), B = nnx.split(model), sizes(name, mesh.size)[0]
    plan = Run(model, recipe, {}, (), dict(classes=classes)).plan()
    fixed = placed(((state,), plan.at, plan.guidance, plan.interval, 1., jax.eval_shape(lambda: jax.random.key(0))), mesh)
    i, x_0, label = np.zeros(B, np.int32), np.zeros((B, *shape), np.float32), None if classes is None else np.zeros(B, np.int32)
    rows = placed((i, x_0, None, (label, None), None), mesh, "batch")
    return sample_batch.trace(*fixed, *rows, networks=((recipe.process, graph),), pixel_range=recipe.pixel_range, rule=plan.rule, thresholding=plan.thresholding, hidden=(classes, None), path=False)

programs = {"train": train_program, "sample": sample_program}


def inner(eqn):
    "The programs inside an instruction."
    for v in eqn.params.values():
        for j in v if isinstance(v, (tuple, list)) else (v,):
            if hasattr(j, "eqns") or hasattr(j, "jaxpr"): yield getattr(j, "jaxpr", j)

def products(jaxpr):
    "FLOPs of all convolutions and matrix products, counted by hand: loops once, of a choice the dearer branch."
    total = 0
    for e in jaxpr.eqns:
        size = math.prod(e.outvars[0].aval.shape)
        if e.primitive.name == "dot_general": total += 2*size*math.prod(e.invars[0].aval.shape[i] for i in e.params["dimension_numbers"][0][0])
        elif e.primitive.name == "conv_general_dilated":
            kernel = e.invars[1].aval.shape
            total += 2*size*math.prod(kernel)//kernel[e.params["dimension_numbers"].rhs_spec[0]]
        else:
            costs = [products(j) for j in inner(e)]
            total += max(costs) if e.primitive.name == "cond" else sum(costs)
    return total

width = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
exchange = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|collective-broadcast|ragged-all-to-all)(-start)?\(")

def collectives(text):
    "What a compiled program exchanges: `[kind, bytes, times]`; of an asynchronous one what it ends with."
    found = Counter()
    for shapes, kind, start in exchange.findall(text):
        parts = [width[t]*math.prod(map(int, d.split(","))) if d else width[t] for t, d in re.findall(r"(\w+)\[([\d,]*)\]", shapes)]
        found[kind, parts[1] if start and kind != "all-reduce" else sum(parts)] += 1
    return [[kind, size, times] for (kind, size), times in sorted(found.items())]


def read(compiled):
    "What the compiler says of its program: a device's FLOPs and bytes, what it exchanges, and which convolutions it runs."
    text, costs, memory = compiled.as_text(), compiled.cost_analysis(), compiled.memory_analysis()
    return dict(flops=costs["flops"], accessed=costs["bytes accessed"], **{k: getattr(memory, f"{k}_size_in_bytes") for k in ("argument", "output", "alias", "temp", "generated_code")},
                collectives=collectives(text), strategy=sorted(set(re.findall(r'"strategy":"(\w+)"', text))),
                convolutions=len(re.findall(r" convolution\(.*conv_general_dilated", text)), cpu_code="winograd" in text)

def row(topology, name, program, quick=False):
    "Compile one program for one topology, and say what it costs a device."
    mesh, weights = mesh_of(topology), jax.tree.leaves(nnx.state(network(name)[-1], nnx.Param))
    (batch, pictures), traced, start = sizes(name, mesh.size), programs[program](name, mesh), time.time()
    compiled = traced.lower().compile({"exec_time_optimization_effort": -1.} if quick else None)
    return dict(topology=topology, model=name, program=program, chips=chips[topology], devices=mesh.size, batch=batch, pictures=pictures,
                parameters=sum(w.size for w in weights), kernels=sum(len(w.shape) == 4 for w in weights), seconds=round(time.time() - start, 1), **read(compiled),
                products=products(traced.jaxpr.jaxpr)//(1 if program == "train" else mesh.size), # in training `shard_map` shows the share of a device
                versions={p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "libtpu", "flax")})

def wrong(r):
    "What is not as promised."
    name = f"{r['topology']}, {r['model']}, {r['program']}"
    expected = [["all-reduce", 4*r["parameters"] + 4, 1]] if r["program"] == "train" else [] # the gradient and the loss, once; pictures are sampled without a word
    if r["collectives"] != expected: yield f"{name}: exchanges {r['collectives']}, expected {expected}"
    # forward, by the kernel and, but for the first, by the input
    if r["convolutions"] < (3*r["kernels"] - 1 if r["program"] == "train" else r["kernels"]): yield f"{name}: {r['convolutions']} convolutions for {r['kernels']} kernels"
    if r["cpu_code"]: yield f"{name}: holds the convolutions that are meant for CPU"

def known():
    "The rows that this version of the compiler has written."
    rows = json.loads(results.read_text())["rows"] if results.exists() else []
    return [r for r in rows if r["versions"]["libtpu"] == importlib.metadata.version("libtpu")]

def main(words, quick):
    "Every program that was asked for and is not yet in the file."
    key = lambda r: (r["program"], r["model"], r["topology"])
    asked = [["train"], ["default"], chips] if quick else [[k for k in kind if k in words] or kind for kind in (programs, models, chips)]
    made = []
    for program, model, topology in product(*asked):
        if not quick and (program, model, topology) in map(key, known()): continue
        made.append(r := row(topology, model, program, quick))
        print(topology, model, program, f"{r['seconds']} s, {r['flops']/1e9:.2f} GFLOP a device, exchanges {r['collectives']}", flush=True)
        if not quick: results.write_text(json.dumps({"rows": known() + [r]}, indent=1) + "\n")
    sys.exit("\n".join(sentence for r in (made if quick else known()) for sentence in wrong(r)) or 0)


if __name__ == "__main__":
    if importlib.util.find_spec("libtpu") is None: sys.exit("skipped: libtpu is not installed; pip install unetdiff[tpu]")
    main([a for a in sys.argv[1:] if a != "--quick"], "--quick" in sys.argv)
