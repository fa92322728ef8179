"""Averages put together after training: through a folder, and what is refused."""
import numpy as np
import pytest
from networks import Scale

from unetdiff import load, train
from unetdiff.averaging import exponent
from unetdiff.engine.checkpoints import network_arrays
from unetdiff.training import Recipe


@pytest.fixture(scope="module")
def kept(bars): return train(bars, model=Scale(), averaging=(exponent(.05), exponent(.1)), steps=20, log_every=5, progress=False)


def test_snapshots_survive_a_folder(kept, tmp_path):
    kept.save(tmp_path/"run")
    back = load(tmp_path/"run", model=kept.model)
    a, b = (network_arrays(run.averaged(.15).model) for run in (back, kept))
    assert all(np.array_equal(a[k], b[k]) for k in b) and back.recipe == kept.recipe


def test_a_width_that_is_too_large_is_refused(kept):
    with pytest.raises(ValueError, match="std: got 0.3"): kept.averaged(.3)


def test_a_run_with_one_average_is_refused(tiny_run):
    with pytest.raises(ValueError, match="run: got one that kept a single average"): tiny_run.averaged(.1)


@pytest.mark.parametrize("bad, said", [((), r"averaging: got \(\)"), ((1., "2"), r"averaging: got \(1.0, '2'\)")])
def test_recipe_refuses(bad, said):
    with pytest.raises(ValueError, match=said): Recipe(averaging=bad)
