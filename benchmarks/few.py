"""What flips, augmentation and dropout are worth where there are few pictures: quality, and near-copies of the training pictures.

    python benchmarks/few.py folder

Trainings on 100, 400 and 1,500 pictures of 8 x 8 pixels, digits and emoji in colour, three seeds, the steps of the recipe; two trainings at a time, a core
each. What is done is kept in the folder, so that it goes on where it was stopped. The emoji are drawn from the font of the Debian package
fonts-noto-color-emoji: 2,312 different ones, with all skin tones and flags.
"""
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from queue import Queue

import numpy as np
from common import cold, cores, kept, mean_and_spread, save
from recipe import emoji

plain = dict(augment=0., net=dict(dropout=0.))
settings = { # name: what is set by hand
    "plain": plain,
    "flips": plain | dict(flips=True),
    "augmentation": plain | dict(augment=.125),
    "dropout": plain | dict(net=dict(dropout=.1)),
    "augmentation and dropout": dict(augment=.125, net=dict(dropout=.1))}
counts, seeds = (100, 400, 1500), (0, 1, 2)
ends = 0x1f000, 0x1f5ff, 0x1f64f, 0x1f8ff, 0x1f9ff # the classes end at these characters; flags are one more


def characters():
    "All that may be an emoji, and its class."
    for code in [*range(0x2190, 0x3300), *range(0x1f000, 0x1fb00)]:
        for tone in ["", *map(chr, range(0x1f3fb, 0x1f400))]: yield chr(code) + tone, int(np.searchsorted(ends, code))
    for pair in product(map(chr, range(0x1f1e6, 0x1f200)), repeat=2): yield "".join(pair), len(ends) + 1


def small_emoji():
    "All emoji, 8 x 8, and their classes, numbered from 0."
    pictures, kinds = emoji(8, characters)
    return pictures, np.unique(kinds, return_inverse=True)[1]


def digits():
    "scikit-learn's digits and their labels."
    from unetdiff import digits
    return map(np.asarray, digits())


sets = {"digits": digits, "emoji": small_emoji}


def worker(name, pictures, count, seed):
    "Train on so many pictures; the scores of samples against 297 or more that are new."
    from unetdiff import train
    from unetdiff.data import split
    from unetdiff.metrics import Reference
    images, labels = sets[pictures]()
    rest, new, rest_labels, new_labels = split(images, labels, 1 - 1500/len(images), seed)
    if count < len(rest): rest, _, rest_labels, _ = split(rest, rest_labels, 1 - count/len(rest), seed)
    run = train(rest, rest_labels, seed=seed, progress=False, **settings[name])
    fake = np.asarray(run.sample(len(new), new_labels, seed=seed))
    test = run.history["test_loss"]
    return Reference(new, new_labels).score(fake, new_labels, rest) | dict(test_loss=float(test[-1]), lowest_test_loss=float(test.min()))


def main(folder):
    "All that the folder does not have yet, and the table of all."
    free = Queue()
    for core in cores(): free.put(core)
    def trained(case):
        core = free.get()
        try: found = cold(__file__, *case, on=[core])
        finally: free.put(core)
        print(*case, {k: round(v, 3) for k, v in found.items()}, flush=True)
        return found
    def row(case):
        file = folder/("-".join(map(str, case)).replace(" ", "_") + ".json")
        return kept(file, lambda: trained(case))
    cases = [(name, pictures, count, seed) for seed in seeds for count in counts for pictures in sets for name in settings]
    with ThreadPoolExecutor(len(cores())) as pool: rows = dict(zip(cases, pool.map(row, cases)))
    save("few", [dict(name=name, pictures=pictures, count=count) | mean_and_spread([rows[name, pictures, count, seed] for seed in seeds])
                 for pictures in sets for count in counts for name in settings])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        name, pictures, count, seed = sys.argv[3:]
        print(json.dumps(worker(name, pictures, int(count), int(seed))))
    else: main(Path(sys.argv[1]))
