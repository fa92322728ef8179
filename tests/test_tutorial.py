"""What the tutorial got wrong in sampling and in its loss, and the library has to do right."""
import sys
from pathlib import Path

import numpy as np

from unetdiff import presets, train_digits
from unetdiff.diffusion import Process, loss

sys.path.append(str(Path(__file__).parents[1]/"benchmarks"))
import tutorial_full

few = dict(batch_size=4, path=True, guidance=1., thresholding="none")


def test_path_is_not_a_blend_of_its_ends(tiny_run):
    path = np.asarray(tiny_run.sample(4, 1, steps=20, sampler="ddpm_large", spacing="uniform", **few)) # [21, 4, 8, 8, 1]
    f = np.linspace(0, 1, 21)[:, None, None, None, None]
    blend = (1 - f)*path[0] + f*path[-1]
    assert np.abs(path - blend)[10].mean() > .1, "the path is a blend of its ends"


def test_steps_and_pictures_have_noise_of_their_own(tiny_run):
    show_noise = lambda denoise, x, t, s, memory, z: (z, memory)
    noise = np.asarray(tiny_run.sample(4, 1, steps=3, sampler=show_noise, **few)).reshape(16, 64)
    assert np.abs(np.corrcoef(noise) - np.eye(16)).max() < .6, "two steps or two pictures share their noise"


def test_gradient_penalty_is_of_the_mean_output():
    "For a network that triples its input the derivative of the mean of n numbers is 3/n."
    process, rng = Process("clipped_cosine", "eps", sigma_data=1.), np.random.default_rng(0)
    x_0, eps = rng.standard_normal((2, 8, 8, 8, 1)).astype(np.float32)
    t = np.linspace(.1, .9, 8).astype(np.float32)
    value = lambda weight: float(loss(process, lambda x, t: 3*x, x_0, t, eps, gradient_penalty=weight))
    np.testing.assert_allclose(value(1e6) - value(0.), 1e6*(3/512)**2, rtol=1e-4)
    assert abs(value(.02) - value(0.)) < 2e-6, "in a batch of eight, a penalty of next to nothing"


def test_frozen_blocks_stay_as_they_are():
    "The training that is compared with the tutorial's printed curve, an eighth as wide and two steps long."
    narrow = dict(preset="tutorial", net=presets["tutorial"].net | dict(features=8), steps=2, log_every=2, progress=False)
    run = train_digits(1, **narrow, **tutorial_full.frozen_blocks())
    unmoved = tutorial_full.unmoved(run)
    assert len(unmoved) == 134 - 16 and not any(tutorial_full.visible(name) for name in unmoved), unmoved
    assert [*tutorial_full.curves(run.history)["loss_ema"]] == [run.history["loss"][0]]
