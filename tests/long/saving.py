"""What `save` writes, `load` reads: the property of tests/test_saving.py with many more trainings.

    python tests/long/saving.py [trainings]

Each is a training of a step or two with a recipe, a network and pictures that Hypothesis draws. Its run is saved and loaded; recipe, history, network, averages and
samples have to be those that were saved, to the last bit, and whatever is the user's own has to be asked for by name. Always the same 100; five minutes on two cores.
"""
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1") # more devices would only compile more
os.environ["TQDM_DISABLE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import unetdiff
from test_saving import small_dense_for, whole_trainings
from unetdiff import training


def main(cases=100):
    "So many trainings, with a dense network where the recipe's U-Net would be."
    unetdiff.keep_compiled()
    training.unet_for = small_dense_for
    start = time.time()
    with tempfile.TemporaryDirectory() as folder: done = whole_trainings(cases, Path(folder))
    print(f"{done} of {cases} recipes could be trained, and came back from a folder as they were; {time.time() - start:.0f} s")


if __name__ == "__main__": main(*map(int, sys.argv[1:]))
