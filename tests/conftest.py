"""What the tests share: pictures, a tiny network and one short training, made once for all of them."""
import os

os.environ.setdefault("MPLBACKEND", "agg")
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pytest

import unetdiff

unetdiff.start_notebook() # compiled programs are kept, as in the lessons, and the processor's cores are used

tiny = dict(net=dict(features=8, channel_mults=(1,), attention_levels=()), steps=20, log_every=10, batch_size=8, progress=False)


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
    "Arguments of `train` for a training of a second or two; all tests that use them share one compiled program."
    return tiny


@pytest.fixture(scope="session")
def tiny_run(digit_images, digit_labels):
    "A run of twenty steps on the digits, with labels."
    return unetdiff.train(digit_images, digit_labels, **tiny)


@pytest.fixture(scope="session")
def bundled():
    "The model that comes with the package."
    return unetdiff.load()
