"""What the tests share: pictures, a tiny network and one short training, made once for all of them."""
import os
import signal

signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's jobs in the background ignore it, and so would all that is started here
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pytest
from flax import nnx
from networks import Dense, Scale

import unetdiff

unetdiff.start_notebook() # compiled programs are kept, as in the lessons, and the processor's cores are used

tiny = dict(steps=20, log_every=10, batch_size=8, progress=False)


@pytest.fixture(scope="session")
def digit_images():
    "All digits, float32 `[1797, 8, 8, 1]` in [0, 1]."
    return np.asarray(unetdiff.digits()[0])


@pytest.fixture(scope="session")
def digit_labels():
    "Their labels, int32 `[1797]`."
    return np.asarray(unetdiff.digits()[1])


@pytest.fixture(scope="session")
def bars():
    "Four hundred pictures of 6 x 10 pixels, bright bars on black."
    rng = np.random.default_rng(0)
    x = np.zeros((400, 6, 10), np.float32)
    for b, row, length in zip(x, rng.integers(0, 6, 400), rng.integers(3, 11, 400)): b[row, :length] = 1
    return x


@pytest.fixture(scope="session")
def tiny_settings():
    "Arguments of `train` for a training of a second or two."
    return tiny


@pytest.fixture(scope="session")
def tiny_run(digit_images, digit_labels):
    "A dense network's run of twenty steps on the digits, with labels."
    return unetdiff.train(digit_images, digit_labels, model=Dense(64, 32, nnx.Rngs(0), classes=10), **tiny)


@pytest.fixture(scope="session")
def least_run():
    "A run on grey pictures of 9 x 7 pixels in three colours, without labels."
    return unetdiff.train(np.full((20, 9, 7, 3), .5, np.float32), model=Scale(), steps=2, log_every=2, progress=False)


@pytest.fixture(scope="session")
def bundled():
    "The model that comes with the package."
    return unetdiff.load()
