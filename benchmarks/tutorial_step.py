"""Seconds for one training step of the classical net (57 million parameters, 160 digits), in a compiled loop: this project's convolutions against XLA's.

    python benchmarks/tutorial_step.py
"""
import sys
import time

from common import Worker, race, save, serve


def worker(way):
    "Train the tutorial preset's network, two steps a round."
    import nets, unetdiff, unetdiff.unet as U
    from unetdiff.training import clipped_adamw, presets, replace, unet_for
    if way == "plain": U.conv_cpu = U.conv_xla
    recipe = replace(presets["tutorial"], penalty=0., batch_size=160, log_every=2)
    model, state, (train, args) = nets.trainer(unet_for(recipe, 1, None), recipe, clipped_adamw(5001), unetdiff.digits(1)[0])
    def work():
        nonlocal state
        start = time.perf_counter()
        state, loss = train(state, *args)
        loss.block_until_ready()
        return (time.perf_counter() - start)/recipe.log_every
    work()  # compiles
    serve(dict(parameters=U.count_params(model)), work)


def main():
    "Race, print the table, save it."
    workers = {way: Worker(__file__, way) for way in ("ours", "plain")}
    ready = {way: w.ready for way, w in workers.items()}
    seconds = race(workers, 3)
    names = dict(ours="unetdiff", plain="XLA's convolutions in the loop")
    save("tutorial_step", [dict(name=names[way], parameters=ready[way]["parameters"], seconds_a_step=s, times_slower=s/seconds["ours"]) for way, s in seconds.items()])


if __name__ == "__main__": worker(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else main()
