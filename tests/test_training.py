"""What `train`, `load` and a recipe take, refuse and give back."""
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from networks import Dense

from unetdiff import Recipe, load, train, train_digits
from unetdiff.engine.checkpoints import network_arrays
from unetdiff.engine.devices import idle_remark
from unetdiff.engine.loop import check_finite
from unetdiff.training import optimizers
from unetdiff.unet import UNet

ok = np.zeros((20, 8, 8), np.float32)


@pytest.mark.parametrize("name, bad", dict(steps=0, grad_accum_steps=3, log_every=1.5, sample_steps=-1, batch_size=0, label_dropout=1., test_size=0, averaging=-1, sigma_data=0,
                                           dtype="float16", gradient_penalty=-.1, optimizer="sgd", schedule="cubic", time_sampler="never").items())
def test_impossible_recipe_is_refused(name, bad):
    with pytest.raises(ValueError) as error: Recipe(**{name: bad})
    assert f"{name}: got {bad!r}" in str(error.value)


def test_recipes_compare_and_hash():
    assert Recipe() == Recipe() and hash(Recipe()) == hash(Recipe())
    for bad in ((), (1., "2")):
        with pytest.raises(ValueError, match="averaging: got"): Recipe(averaging=bad)


@pytest.mark.parametrize("name", optimizers)
def test_learning_rate_starts_at_zero(name):
    g = {"a": jnp.array([3., -.1]), "b": jnp.array([.2])}
    optimizer = optimizers[name](100)
    updates, _ = jax.jit(lambda g: optimizer.update(g, optimizer.init(g), g))(g)
    assert float(jnp.abs(updates["a"]).max()) == 0.


@pytest.mark.parametrize("call, nearest", [(lambda: train(ok, learnrate=1), "learnrate"), (lambda: train(ok, net=dict(feature=8)), "'features'"), (lambda: Recipe(net=dict(mult=(1,))), "mult"),
                                           (lambda: train_digits(stepss=5), "'steps'"), (lambda: load(sigma=1.), "'sigma_data'"), (lambda: load().sample(2, guidence=1.), "'guidance'"),
                                           (lambda: train(ok, checkpoints=dict(evry=3), out="never"), "'every'")])
def test_unknown_names_are_refused_with_the_nearest(call, nearest):
    with pytest.raises(TypeError, match=r"^\w+: got .+, but takes .+") as error: call()
    assert nearest in str(error.value), str(error.value)
    assert not os.path.exists("never"), "nothing may be written"


class BarsOnly(Dense):
    "Its output has always one shape."
    def __call__(self, x, t): return jnp.zeros((len(x), 6, 10, 1))


refusals = {
    "one picture": ("images: got shape (8, 8)", (ok[0],), {}), "nan": ("NaN", (ok*np.nan,), {}), "range": ("images: got float pixels", (ok + 3.,), {}),
    "label count": ("labels: got shape (3,)", (ok, [0, 1, 2]), {}), "label kind": ("labels: got dtype object", (ok, [None, 1]*10), {}), "label type": ("labels: got dtype", (ok, np.full(20, .5)), {}),
    "no steps": ("steps: got 0", (ok,), dict(steps=0)), "negative steps": ("steps: got -3", (ok,), dict(steps=-3)), "batch": ("batch_size", (ok,), dict(batch_size=0)),
    "schedule": ("schedule: got 'x'", (ok,), dict(schedule="x")), "model": ("model: got a function", (ok,), dict(model=lambda x, t: x)),
    "output": ("model: got output of shape (2, 6, 10, 1) for pictures of shape (2, 8, 8, 1)", (ok,), dict(model=BarsOnly(60, 8, nnx.Rngs(0)))),
    "streamed": ("batch_size: got None", (ok,), dict(stream=True, batch_size=None)), "number": ("images: got a int", (3,), {}), "folder": ("which is no folder", ("no such folder",), {}),
}


@pytest.mark.parametrize("said, args, settings", refusals.values(), ids=refusals)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, said, args, settings):
    with pytest.raises(ValueError) as error: train(*args, out=tmp_path/"run", progress=False, **settings)
    assert said in str(error.value) and not (tmp_path/"run").exists()


@pytest.mark.parametrize("said, args, settings", [("digit: got 10", (10,), {}), ("preset: got 'big', but takes one of 'default', 'tutorial'", (), dict(preset="big")),
                                                  ("digit: got None", (), dict(preset="tutorial")), ("steps: got 0", (), dict(steps=0))])
def test_train_digits_refuses(tmp_path, said, args, settings):
    with pytest.raises(ValueError) as error: train_digits(*args, out=tmp_path/"run", progress=False, **settings)
    assert said in str(error.value) and not (tmp_path/"run").exists()


def test_pictures_of_any_size(least_run, own_run):
    assert least_run.info["shape"] == [9, 7, 3]
    assert own_run.info["shape"] == [6, 10, 1], "pictures without an axis of channels have one channel"


def test_out_must_not_be_a_file(tmp_path):
    (tmp_path/"file").write_text("x")
    with pytest.raises(ValueError, match="out: got"): train(ok, steps=1, out=tmp_path/"file")


def test_a_loss_that_is_no_number_ends_training():
    with pytest.raises(FloatingPointError, match="loss: became"): train(ok, model=Dense(64, 8, nnx.Rngs(0)), optimizer=optax.sgd(1e30), steps=20, log_every=10, progress=False)
    check_finite([1., 2.], 0)
    check_finite([.1, 1e5], 1)
    with pytest.raises(FloatingPointError, match=r"loss: became 1e\+07 at step 2"): check_finite([.1, .1, 1e7], 2)


def test_dtype_of_a_given_network_stays(bundled):
    with pytest.raises(ValueError, match="dtype: got 'bfloat16'"): train(ok, model=bundled.model, dtype="bfloat16")


def test_a_run_kept_by_a_callback_stays_as_it_was(bars):
    runs = []
    train(bars, model=Dense(60, 16, nnx.Rngs(0)), optimizer=optax.adam(1e-3), steps=4, log_every=2, callback=lambda step, metrics, run: runs.append(run), progress=False)
    first, last = ([np.asarray(p) for p in jax.tree.leaves(nnx.state(r.model, nnx.Param))] for r in runs)
    assert all(np.isfinite(p).all() for p in first), "a kept run has changed"
    assert not np.array_equal(first[0], last[0]), "a kept run has changed"


def test_remarks_before_a_training():
    devices = jax.device_count()
    assert idle_remark(devices, 1) == [] and len(idle_remark(devices + 1, 1)) == int(devices > 1)


@pytest.fixture(scope="module")
def own_run(bars): return train(bars, model=Dense(60, 16, nnx.Rngs(0)), optimizer=optax.adam(1e-3), steps=4, log_every=2, progress=False)


def test_own_network_comes_back_only_with_itself(tmp_path, own_run):
    path = tmp_path/"own"
    own_run.save(path)
    with pytest.raises(ValueError, match="already holds a run"): own_run.save(path)
    with pytest.raises(ValueError, match=r"\['model'\] of your own"): load(path)
    back = load(path, model=Dense(60, 16, nnx.Rngs(1)))
    np.testing.assert_array_equal(np.asarray(back.model.a.kernel[...]), np.asarray(own_run.model.a.kernel[...]))
    with pytest.raises(ValueError, match="do not fit the network at a.bias"): load(path, model=Dense(60, 8, nnx.Rngs(1)))
    with pytest.raises(ValueError, match="holds no run"): load(tmp_path/"nothing")
    (path/"model.safetensors").write_bytes(b"\0"*100)
    with pytest.raises(ValueError, match="a damaged run"): load(path, model=back.model)


def test_same_seed_same_bits_in_another_process_and_in_a_folder(tmp_path):
    code = """import signal, unetdiff, numpy as np
unetdiff.keep_compiled()
run = unetdiff.train_digits(steps=1000, progress=False, callback=lambda *_: signal.raise_signal(signal.SIGINT))
print(run.history["loss"].tobytes().hex(), np.asarray(unetdiff.load().sample(8)).tobytes().hex())"""
    as_many = os.environ | {"JAX_NUM_CPU_DEVICES": str(jax.local_device_count("cpu"))} # devices as here
    losses, samples = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, env=as_many).stdout.split()
    here = train_digits(steps=1000, progress=False, callback=lambda *_: signal.raise_signal(signal.SIGINT))
    assert losses == here.history["loss"].tobytes().hex(), "another process got other losses from the same seed"
    assert samples == np.asarray(load().sample(8)).tobytes().hex(), "another process drew other samples from the same seed"
    here.save(tmp_path/"run")
    kept, back = (network_arrays(run.model) for run in (here, load(tmp_path/"run")))
    assert kept.keys() == back.keys() and all(np.array_equal(kept[k], back[k]) for k in kept), "a loaded network is another one"
