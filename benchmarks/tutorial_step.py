"""Seconds for one training step of the classical net (57 million parameters, 160 digits), in a compiled loop: this project's convolutions against XLA's.

    python benchmarks/tutorial_step.py
"""
import sys
import time

from common import Worker, race, save, serve


def worker(way):
    "Train the tutorial preset's network, two steps a round."
    import jax, jax.numpy as jnp
    from flax import nnx
    import unetdiff, unetdiff.unet as U
    from unetdiff.training import State, clipped_adamw, mesh_for, presets, replace, train_steps, unet_for
    if way == "plain": U.conv_cpu = U.conv_xla
    steps = 2
    recipe = replace(presets["tutorial"], penalty=0., batch_size=160, log_every=steps)
    optimizer = clipped_adamw(5001)
    graph, params, rest = nnx.split(U.init(unet_for(recipe, 1, None)), nnx.Param, ...)
    state = [State(params, jax.tree.map(jnp.copy, params), optimizer.init(params), rest)]
    mesh = mesh_for(recipe.batch_size)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state, x = [jax.device_put(state[0], everywhere)], jax.device_put(jnp.asarray(unetdiff.digits(1)[0]), everywhere)
    def work():
        start = time.perf_counter()
        state[0], loss = train_steps(state[0], 0, steps, x, None, jax.random.key(0), graph=graph, recipe=recipe, optimizer=optimizer, classes=None, mesh=mesh)
        loss.block_until_ready()
        return (time.perf_counter() - start)/steps
    start = time.perf_counter()
    work()  # compiles
    serve(dict(parameters=sum(p.size for p in jax.tree.leaves(params)), first=time.perf_counter() - start), work)


def main():
    "Race, print the table, save it."
    workers = {way: Worker(__file__, way) for way in ("ours", "plain")}
    ready = {way: w.ready for way, w in workers.items()}
    seconds = race(workers, 3)
    names = dict(ours="unetdiff", plain="XLA's convolutions in the loop")
    save("tutorial_step", [dict(name=names[way], parameters=ready[way]["parameters"], seconds_a_step=s, times_slower=s/seconds["ours"]) for way, s in seconds.items()])


if __name__ == "__main__": worker(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else main()
