"""Runs in other programs: the same pictures without JAX, whatever the run, and one sentence for what cannot be written."""
import json
import re
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import Dense

from unetdiff import Recipe, train
from unetdiff.export import as_onnx, fresh_noise, portable, step_weights
from unetdiff.sampling import NoiseLevel, churned, points, sample_loop, samplers
from unetdiff.unet import UNet, init

rng = np.random.default_rng(0)
quick = dict(steps=2, log_every=2, batch_size=8, progress=False)
narrow = dict(features=8, attention_levels=(), time_emb_dim=8)
grey = lambda *shape: rng.uniform(0, 1, (20, *shape)).astype(np.float32)


def unlabelled(): return train(grey(8, 8, 1), **quick, net=narrow | dict(channel_mults=(1, 2)))
def in_words(): return train(grey(10, 8, 1), ["left", "right"]*10, **quick, net=narrow | dict(channel_mults=(1, 2)))
def odd_colours(): return train(grey(27, 20, 3), [*range(5)]*4, **quick, net=narrow | dict(channel_mults=(1, 2), attention_levels=(0,), patch_size=2))
def three_levels(): return train(grey(16, 16, 3), **quick, net=dict(features=8, channel_mults=(1, 2, 4), attention_levels=(1, 2), time_emb_dim=8, dropout=.1))
def half_precision(): return train(grey(8, 8, 1), **quick, dtype="bfloat16", net=narrow | dict(channel_mults=(1,)))
def augmented(): return train(grey(8, 8, 1), [0, 1]*10, augment=.3, **quick, net=narrow | dict(channel_mults=(1,)))
def told_numbers(): return train(grey(8, 8, 1), [0, 1]*10, condition=grey(3), **quick, net=narrow | dict(channel_mults=(1,)))
def told_pictures(): return train(grey(9, 7, 1), condition=grey(5, 3, 1), **quick, net=narrow | dict(channel_mults=(1,)))
def in_another_range(): return train(grey(8, 8, 1), pixel_range=(0., 1.), schedule="linear", prediction="eps", thresholding="none", **quick, net=narrow | dict(channel_mults=(1,)))
def of_flow(): return train(grey(8, 8, 1), schedule="flow", prediction="flow", **quick, net=narrow | dict(channel_mults=(1,)))
def your_own(): return train(grey(8, 8, 1), [0, 1, 2, 3]*5, model=Dense(64, 16, nnx.Rngs(0), classes=4), **quick)
def student(method): return unlabelled().distill(2, method=method, evaluations=2, count=16, batch_size=8, log_every=2, progress=False)
def of_pairs(): return student("pairs")
def told_where_steps_end(): return student("meanflow")


@pytest.mark.parametrize("make", [unlabelled, in_words, odd_colours, three_levels, half_precision, augmented, told_numbers, told_pictures, in_another_range, of_flow, your_own, of_pairs,
                                  told_where_steps_end], ids=lambda f: f.__name__)
def test_the_same_pictures_without_jax(tmp_path, make):
    "The exported folder draws what the run draws, any number at a time, of the recipe's own sampler and, for some, of one that adds noise."
    run = make()
    usual = {} if "teacher" in run.info else dict(steps=3)
    for name, how in {"usual": usual, "ddpm": usual | dict(sampler="ddpm")}.items():
        if name == "ddpm" and make not in (in_words, odd_colours): continue
        run.export(tmp_path/name, **how)
        n, steps = 3, len(run.plan(**how).at.t) - 1
        z = rng.standard_normal((n, *run.info["shape"]), np.float32)
        shape = tuple(run.info.get("condition", {}).get("shape", ())) if run.info.get("condition") else None
        condition = None if shape is None else rng.uniform(0, 1, (n, *shape)).astype(np.float32)
        label = None if run.classes is None else run.names[-1]
        told = run._given_for(n, label, condition, 0)[1]
        ours = np.asarray(run.sample(n, label, condition=condition, z=z, seed=3, **how))
        theirs = runpy.run_path(str(tmp_path/name/"sample.py"))["sample"](tmp_path/name, n, label, condition=told, z=z, fresh=fresh_noise(run, n, steps, 3))
        tolerance = 2e-2 if run.recipe.dtype == "bfloat16" else 1e-4 # the run itself rounds
        assert np.abs(ours - theirs).max() < tolerance, f"off by {np.abs(ours - theirs).max():.2g}"


def test_a_python_without_jax_draws(tmp_path, bundled):
    "With JAX, Flax and this package out of reach; guidance of one's own; labels as often as in training."
    bundled.export(tmp_path/"d", steps=2)
    program = """
import sys
for name in ("jax", "jaxlib", "flax", "unetdiff"): sys.modules[name] = None
import numpy as np
from sample import sample
a, b = (sample(".", 5, label=3, guidance=w, seed=1) for w in (1., 4.))
assert a.shape == (5, 8, 8, 1) and 0 <= a.min() and a.max() <= 1 and np.isfinite(a).all()
assert np.abs(a - b).max() > .05, "guidance does nothing"
assert np.abs(a - sample(".", 5, label=[3]*5, guidance=1., seed=1)).max() == 0
assert sample(".", 40).shape == (40, 8, 8, 1)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path/"d", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_file_says_what_goes_in_and_out(tmp_path, bundled):
    import onnxruntime
    session = onnxruntime.InferenceSession(as_onnx(bundled), providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [("x", ["B", 8, 8, 1], "tensor(float)"), ("t", ["B"], "tensor(float)"), ("label", ["B"], "tensor(int32)")]
    x, t, label = rng.standard_normal((7, 8, 8, 1), np.float32), rng.uniform(0, 999, 7).astype(np.float32), np.arange(7, dtype=np.int32)
    first = session.run(None, dict(x=x, t=t, label=label))[0]
    assert np.abs(first - jax.jit(lambda *v: bundled.model(*v))(x, t, label)).max() < 2e-5


@pytest.mark.parametrize("name", [name for name in samplers if name != "heun"])
def test_weights_are_the_rule(name):
    "The walk by the table and the walk by the rule, for any estimates and noises."
    schedule = Recipe().process.schedule
    at = points(schedule, np.linspace(1, .2, 6))
    x, fresh = rng.standard_normal((2, 3, 3, 1), np.float32), rng.standard_normal((6, 2, 3, 3, 1), np.float32)
    guess = lambda x, t: jnp.tanh(x + t.t)
    y, before = x, 0*x
    previous = (jnp.zeros_like(x), jnp.float32(0))
    for i, (a, b, c, d) in enumerate(step_weights(samplers[name], at)):
        t, s = (NoiseLevel(*(v[j] for v in at)) for j in (i, i + 1))
        D = guess(y, t)
        other, previous = samplers[name](guess, y, t, s, previous, fresh[i])
        y, before = a*y + b*D + c*before + d*fresh[i], D
        assert np.abs(y - other).max() < 1e-5


def test_weights_of_a_walk_that_goes_up_and_down(bundled):
    "Where noise is added the network is not asked, and what came before is forgotten."
    at = bundled.plan(spacing=churned("karras", .3), steps=5).at
    up = np.diff(at.sigma/at.alpha) > 0
    weights = step_weights(samplers["dpmpp_2m"], at)
    assert up.any() and not weights[up][:, 1:3].any() and (weights[up][:, 3] > 0).all()
    assert not weights[1:][up[:-1], 2].any()


def two_looks(denoise, x, t, s, previous, z): return denoise(denoise(x, t), s), previous
def keeps_a_mean(denoise, x, t, s, previous, z): return denoise(x, t), ((denoise(x, t) + previous[0])/2, previous[1])
def cuts(denoise, x, t, s, previous, z): return jnp.clip(s.alpha*denoise(x, t) + s.sigma*x/t.sigma, -.1, .1), previous


@pytest.mark.parametrize("how, said", [
    (dict(sampler="heun"), "sampler: got 'heun'"), (dict(sampler=two_looks), "sampler: got 'two_looks'"), (dict(sampler=keeps_a_mean), "sampler: got 'keeps_a_mean'"),
    (dict(sampler=cuts), "off by"), (dict(thresholding="dynamic"), "thresholding: got"), (dict(steps=0), "steps: got 0"), (dict(steer=lambda x: x.sum()), "steer"), (dict(walk=3), "walk")])
def test_export_refuses(tmp_path, bundled, how, said):
    with pytest.raises((ValueError, TypeError), match=re.escape(said)): bundled.export(tmp_path/"x", **how)
    assert not (tmp_path/"x").exists(), "something was written"


class Strange(nnx.Module):
    "It calls back into Python, which no file can."
    def __init__(self): self.a = nnx.Param(jnp.ones(()))
    def __call__(self, x, t): return self.a[...]*jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


def test_a_network_that_cannot_be_written_is_named(tmp_path):
    run = train(grey(4, 4, 1), model=Dense(16, 8, nnx.Rngs(0)), **quick)
    run.model = Strange()
    with pytest.raises(ValueError, match="model: got a network that cannot be written as ONNX .*pure_callback"): run.export(tmp_path/"x")
    assert not (tmp_path/"x").exists()


def test_missing_packages_are_named(tmp_path, bundled, monkeypatch):
    monkeypatch.setattr("unetdiff.export.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install unetdiff\[onnx\]"): bundled.export(tmp_path/"x")


def test_a_folder_is_not_written_over(tmp_path, bundled):
    (tmp_path/"network.onnx").write_text("mine")
    for write in (bundled.export, bundled.live):
        with pytest.raises(ValueError, match="network.onnx"): write(tmp_path)
    with pytest.raises(ValueError, match="run"):
        bundled.save(tmp_path/"run")
        bundled.export(tmp_path/"run")
    assert (tmp_path/"network.onnx").read_text() == "mine"


def test_exporting_changes_nothing(tmp_path, bundled):
    "Neither the run nor JAX; the copy that is exported is in the state of use."
    before = np.asarray(bundled.sample(4, 3))
    bundled.export(tmp_path/"x", steps=2)
    assert np.abs(before - np.asarray(bundled.sample(4, 3))).max() == 0
    net = init(lambda rngs: UNet(1, 1, 8, channel_mults=(1,), attention_levels=(), dropout=.5, dtype="bfloat16", rngs=rngs))
    copy = portable(net)
    assert copy.down0.block.dropout.deterministic and not net.down0.block.dropout.deterministic
    assert copy.head.dtype == jnp.float32 and net.head.dtype == jnp.bfloat16


def test_live_page(tmp_path, bundled):
    "The page holds walks for all samplers, the recipe's own first; a student stands beside them."
    bundled.live(tmp_path/"page", steps=(2, 5), title="<mine>", student=bundled_student(bundled))
    about = json.loads((tmp_path/"page"/"live.json").read_text())
    assert [*about["walks"]] == ["DPM-Solver++", "SDE-DPM-Solver++", "DDIM", "DDPM", "student"]
    assert [[*walks] for walks in about["walks"].values()] == [["2", "5"]]*4 + [["1"]]
    assert {walk["network"] for walks in about["walks"].values() for walk in walks.values()} == {"network.onnx", "student.onnx"}
    assert "&lt;mine&gt;" in (tmp_path/"page"/"index.html").read_text()
    assert sorted(file.name for file in (tmp_path/"page").iterdir()) == ["index.html", "live.css", "live.js", "live.json", "network.onnx", "student.onnx"]


def bundled_student(run): return run.distill(2, count=16, batch_size=8, log_every=2, progress=False)


@pytest.mark.parametrize("how, said", [(dict(steps=()), "steps: got ()"), (dict(steps=(0,)), "steps: got (0,)"), (dict(student=3), "student: got a int")])
def test_live_refuses(tmp_path, bundled, how, said):
    with pytest.raises(ValueError, match=re.escape(said)): bundled.live(tmp_path/"x", **how)
    assert not (tmp_path/"x").exists()


def test_live_refuses_another_runs_student(tmp_path, bundled):
    with pytest.raises(ValueError, match="student: got"): bundled.live(tmp_path/"x", student=unlabelled())
    with pytest.raises(ValueError, match="condition"): told_numbers().live(tmp_path/"x")
