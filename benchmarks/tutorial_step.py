"""Seconds for one training step of the classical net (57 million parameters, 160 digits), in a compiled loop: this project's convolutions against XLA's.

    python benchmarks/tutorial_step.py
"""
import sys
from dataclasses import replace

from common import Worker, race, save, serve


def worker(way):
    "Train the tutorial preset's network, two steps a round."
    import nets
    from unetdiff import digits
    from unetdiff.training import clipped_adamw, presets, unet_for
    from unetdiff.unet import count_params
    if way == "plain": nets.use_plain_convolutions()
    recipe = replace(presets["tutorial"], gradient_penalty=0., batch_size=160, log_every=2)
    model, state, (train, args) = nets.trainer(unet_for(recipe, 1, None), recipe, clipped_adamw(5001), digits(1)[0])
    seconds = nets.timed_steps(state, train, args)
    serve(dict(parameters=count_params(model)), lambda: seconds()/recipe.log_every)


def main():
    "Race, print the table, save it."
    workers = {way: Worker(__file__, way) for way in ("ours", "plain")}
    ready = {way: w.ready for way, w in workers.items()}
    seconds = race(workers, 3)
    names = dict(ours="unetdiff", plain="XLA's convolutions in the loop")
    save("tutorial_step", [dict(name=names[way], parameters=ready[way]["parameters"], seconds_a_step=s, times_slower=s/seconds["ours"]) for way, s in seconds.items()])


if __name__ == "__main__": worker(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else main()
