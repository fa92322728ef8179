"""Trainings that are interrupted, damaged, locked out or short of disk: they go on, or say why not."""
import json
import shutil
import signal
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from filelock import FileLock
from flax import nnx
from networks import Dense

from unetdiff import load, train
from unetdiff.diffusion import loss
from unetdiff.engine import checkpoints
from unetdiff.engine.checkpoints import Checkpoints, forms, network_arrays, pack, unpack


class PowerCut(KeyboardInterrupt):
    "Ends a training at once, as a second Ctrl-C does: no checkpoint is written on the way out."


def power_cut(at):
    "A callback that fails at a step."
    def callback(step, metrics, run):
        if step == at: raise PowerCut
    return callback


@pytest.fixture(scope="module")
def two_days(): return dict(model=Dense(60, 16, nnx.Rngs(0)), optimizer=optax.adam(1e-3), steps=400, progress=False, checkpoints=dict(every=100))


@pytest.fixture(scope="module")
def undisturbed(bars, two_days): return train(bars, **two_days)


@pytest.fixture
def interrupted(tmp_path, bars, two_days):
    "A folder in which a training was cut off at step 300 of 400."
    with pytest.raises(PowerCut): train(bars, out=tmp_path/"run", callback=power_cut(300), **two_days)
    for file in (tmp_path/"run").glob("*.*"): file.unlink() # without power nothing is written at the end
    return tmp_path/"run"


def spoil(path):
    "Flip a bit in the middle of the largest file."
    file = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data)//2] ^= 1
    file.write_bytes(data)


def same_run(a, b):
    "Are history and weights equal to the bit?"
    leaves = [jax.tree.leaves((r.history, network_arrays(r.model))) for r in (a, b)]
    return all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True))


def warned(call):
    "What `call` returns, and what it warned of."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in caught]


def test_interrupted_training_ends_as_undisturbed(interrupted, bars, two_days, undisturbed):
    assert sorted(p.name for p in (interrupted/"checkpoints").iterdir()) == ["200", "300"]
    resumed = train(bars, out=interrupted, resume=True, **two_days)
    assert same_run(resumed, undisturbed), "a training that goes on should end as if it had never stopped"


def test_unfinished_folder_is_refused_without_resume(interrupted, bars, two_days):
    with pytest.raises(ValueError, match="which holds an unfinished training"): train(bars, out=interrupted, **two_days)


def test_other_configuration_is_refused(interrupted, bars, two_days):
    with pytest.raises(ValueError, match=r"another run \(batch_size is 64 there and 16 here\)"):
        train(bars, out=interrupted, resume=True, **(two_days | dict(batch_size=16)))


def test_other_optimizer_is_told_from_damage(interrupted, bars, two_days):
    "Of a custom optimizer only the kind is kept; its memory tells it from another."
    with pytest.raises(ValueError, match=r"another run \(the arrays are of other shapes or types\)"):
        train(bars, out=interrupted, resume=True, **(two_days | dict(optimizer=optax.sgd(1e-3))))


def test_more_steps_other_reports_and_another_sampler_are_the_same_training(interrupted, bars, two_days):
    with pytest.raises(ValueError, match="steps: got 200, but takes at least the 300"): train(bars, out=interrupted, resume=True, **(two_days | dict(steps=200)))
    longer = train(bars, out=interrupted, resume=True, **(two_days | dict(steps=500, log_every=50, sampler="ddim")))
    assert len(longer.history["loss"]) == 500 and longer.recipe.sampler == "ddim"
    np.testing.assert_array_equal(longer.history["test_step"], [100, 200, 300, 350, 400, 450, 500])
    again = train(bars, out=interrupted, resume=True, **(two_days | dict(steps=500, sampler="heun")))
    assert again.recipe.sampler == "heun" and len(again.history["loss"]) == 500


def test_locked_folder_is_refused(interrupted, bars, two_days):
    with FileLock(interrupted/".lock"), pytest.raises(ValueError, match="where another training is at work"):
        train(bars, out=interrupted, resume=True, **two_days)


def test_damaged_checkpoint_falls_back_to_the_one_before(interrupted, bars, two_days, undisturbed):
    spoil(interrupted/"checkpoints"/"300")
    again, said = warned(lambda: train(bars, out=interrupted, resume=True, **two_days))
    assert any("checkpoint of step 300 is damaged" in s for s in said), f"a damaged checkpoint should be told: {said}"
    np.testing.assert_array_equal(again.history["loss"], undisturbed.history["loss"])
    finished = train(bars, out=interrupted, resume=True, **two_days)
    np.testing.assert_array_equal(finished.history["loss"], again.history["loss"])


def test_other_version_goes_on_and_says_so(interrupted, bars, two_days, undisturbed, monkeypatch):
    monkeypatch.setattr(checkpoints, "__version__", "9.9")
    again, said = warned(lambda: train(bars, out=interrupted, resume=True, **two_days))
    assert any("was made with" in s for s in said), f"another version should be told: {said}"
    np.testing.assert_array_equal(again.history["loss"], undisturbed.history["loss"])


def test_all_damaged_is_refused(interrupted, bars, two_days):
    for step in (interrupted/"checkpoints").iterdir(): spoil(step)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="whose checkpoints are all damaged"):
        warnings.simplefilter("ignore")
        train(bars, out=interrupted, resume=True, **two_days)


def test_sigterm_keeps_and_leaves(tmp_path, bars, two_days):
    stop = lambda step, *_: signal.raise_signal(signal.SIGTERM) if step == 100 else None
    with pytest.raises(SystemExit) as left: train(bars, out=tmp_path/"run", callback=stop, **(two_days | dict(checkpoints={})))
    assert left.value.code == 143
    assert [p.name for p in (tmp_path/"run"/"checkpoints").iterdir()] == ["100"]


def no_room(monkeypatch): monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e4))


def no_write(monkeypatch):
    def fails(*args, **kwargs): raise OSError(28, "No space left on device")
    monkeypatch.setattr(ocp.CheckpointManager, "save", fails)


@pytest.mark.parametrize("spoiled, says", [(no_room, "it needs 0.1 MB, and the disk has 0.0"), (no_write, "No space left")])
def test_full_disk_is_told_and_training_goes_on(tmp_path, bars, two_days, monkeypatch, spoiled, says):
    spoiled(monkeypatch)
    done, said = warned(lambda: train(bars, out=tmp_path/"run", **two_days))
    assert any("no checkpoint at step 100: " in s and says in s for s in said), f"{said}"
    assert len(done.history["loss"]) == 400


def test_streamed_training_goes_on(tmp_path, bars, two_days):
    "The data's position is its step, so a training that reads as it goes can go on, too."
    flow = two_days | dict(stream=True, log_every=50, batch_size=20)
    with pytest.raises(PowerCut): train(bars, out=tmp_path/"run", callback=power_cut(300), **flow)
    again = train(bars, out=tmp_path/"run", resume=True, **flow)
    np.testing.assert_array_equal(again.history["loss"], train(bars, **flow).history["loss"])
    with pytest.raises(ValueError, match="another run"): train(bars, out=tmp_path/"run", resume=True, **(flow | dict(stream=False)))


def test_sharded_training_goes_on(tmp_path, bars):
    "Also with the state cut up among the devices."
    cut = dict(model=Dense(60, 16, nnx.Rngs(0)), steps=20, log_every=10, batch_size=8, fsdp=True, progress=False, checkpoints=dict(every=10))
    with pytest.raises(PowerCut): train(bars, out=tmp_path/"run", callback=power_cut(20), **cut)
    assert sorted(p.name for p in (tmp_path/"run"/"checkpoints").iterdir()) == ["10", "20"]
    again = train(bars, out=tmp_path/"run", resume=True, **cut)
    np.testing.assert_array_equal(again.history["loss"], train(bars, **cut).history["loss"])


def test_packing_keeps_every_bit():
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7), np.zeros((0, 2)), np.array([True]), np.asarray(jnp.arange(3, dtype=jnp.bfloat16))]
    for a, b in zip(arrays, unpack(pack(arrays), forms(arrays)), strict=True):
        assert (a.tobytes(), a.shape, a.dtype) == (b.tobytes(), b.shape, b.dtype)


@pytest.mark.parametrize("bad", [dict(every=0), dict(minutes=-1), dict(keep=1.5), dict(best=1), dict(evry=3)])
def test_wrong_settings_are_refused(bad):
    with pytest.raises((ValueError, TypeError), match=f"{next(iter(bad))}: got"): Checkpoints("never", {}, **bad)


@pytest.fixture(scope="module")
def small(): return dict(model=Dense(60, 16, nnx.Rngs(0)), optimizer=optax.adam(1e-3), steps=4, log_every=2, progress=False)


def test_resume_returns_what_is_finished(tmp_path, bars, small):
    out = tmp_path/"run"
    first, second = (train(bars, out=out, resume=True, **small) for _ in range(2))
    np.testing.assert_array_equal(first.history["loss"], second.history["loss"])
    with pytest.raises(ValueError, match="another run .*data is"): train(bars[:300], out=out, resume=True, **small)
    assert len(train(bars, out=out, resume=True, **(small | dict(steps=6))).history["loss"]) == 6
    with pytest.raises(ValueError, match="out: got"): train(bars, out=out, **small)


def test_reports_come_as_often_after_an_odd_start(tmp_path, bars, small):
    "Also where the first training ended between two reports: else Ctrl-C and power cuts would lose all that follows."
    seen, out = [], tmp_path/"run"
    train(bars, out=out, **(small | dict(steps=5)))
    longer = train(bars, out=out, resume=True, callback=lambda step, *_: seen.append(step), **(small | dict(steps=12)))
    assert seen == [7, 9, 11, 12] and longer.history["test_step"].tolist() == [2, 4, 5, *seen]


def mine(*args): return 0*loss(*args)


def test_finished_run_is_not_taken_for_one_with_a_loss_of_ones_own(tmp_path, bars, small):
    plain, own = tmp_path/"plain", tmp_path/"own"
    train(bars, out=plain, **small)
    train(bars, out=own, loss=mine, **small)
    with pytest.raises(ValueError, match="loss is 'denoising' there and {'own': 'mine'} here"): train(bars, out=plain, resume=True, loss=mine, **small)
    with pytest.raises(ValueError, match="loss is {'own': 'mine'} there and 'denoising' here"): train(bars, out=own, resume=True, **small)
    assert train(bars, out=own, resume=True, loss=mine, **small).recipe.loss is mine


def test_run_that_goes_on_is_resumed(tmp_path, bars, small):
    "Its learning rate follows from the steps, so it may be another; one that is asked for may not."
    more = {name: v for name, v in small.items() if name not in ("model", "optimizer")} | dict(model=train(bars, batch_size=16, **(small | dict(optimizer="adamw"))), out=tmp_path/"run")
    first, again = (train(bars, resume=True, **more) for _ in range(2))
    np.testing.assert_array_equal(first.history["loss"], again.history["loss"])
    assert len(train(bars, resume=True, **(more | dict(steps=8))).history["loss"]) == 8
    with pytest.raises(ValueError, match="lr is .* there and 0.1 here"): train(bars, resume=True, lr=.1, **(more | dict(steps=10)))


def test_run_without_its_checkpoints_is_not_trained_anew(tmp_path, bars, small):
    out = tmp_path/"run"
    train(bars, **small).save(out)
    assert len(train(bars, out=out, resume=True, **small).history["loss"]) == 4
    (out/"checkpoints").mkdir()
    with pytest.raises(ValueError, match="a run of 4 steps without its checkpoints"): train(bars, out=out, resume=True, **(small | dict(steps=8)))
    with pytest.raises(ValueError, match="steps: got 2, but takes at least the 4"): train(bars, out=out, resume=True, **(small | dict(steps=2)))


def test_few_pictures_stay_few_when_more_steps_follow(tmp_path, bars):
    "The rule for dropout looks at the number of steps, and a training that goes on keeps its network."
    few = dict(net=dict(features=8, channel_mults=(1,), patch_size=1), batch_size=8, log_every=2, progress=False, out=tmp_path/"run", resume=True)
    first = train(bars[:8], steps=4, **few)
    longer = train(bars[:8], steps=602, callback=lambda step, *_: step > 4, **few)
    assert longer.recipe.net == first.recipe.net and longer.recipe.augment == 0 and len(longer.history["loss"]) == 6


def test_a_network_of_ones_own_on_few_pictures_is_resumed(tmp_path, bars, small):
    few = small | dict(out=tmp_path/"run", resume=True, steps=80, log_every=40)
    first, again = (train(bars[:8], **few) for _ in range(2))
    np.testing.assert_array_equal(first.history["loss"], again.history["loss"])
    assert len(train(bars[:8], **(few | dict(steps=120))).history["loss"]) == 120


def test_settings_that_an_earlier_version_did_not_have(tmp_path, bars, small):
    out = tmp_path/"run"
    train(bars, out=out, **small)
    about = json.loads((out/"run.json").read_text())
    del about["recipe"]["flips"], about["recipe"]["augment"]
    (out/"run.json").write_text(json.dumps(about))
    assert len(train(bars, out=out, resume=True, **small).history["loss"]) == 4
    (out/"run.json").write_text("[]")
    with pytest.raises(ValueError, match="path: got .* of which a part is missing"): train(bars, out=out, resume=True, **small)


def test_a_finished_run_with_a_sampler_of_ones_own(tmp_path, bars, small):
    "The sampler may be another one when a training is resumed."
    out = tmp_path/"run"
    train(bars, out=out, sampler=lambda *a: a, **small)
    assert train(bars, out=out, resume=True, sampler="ddim", **small).recipe.sampler == "ddim"


def test_wrong_settings_of_checkpoints_leave_nothing_behind(tmp_path, bars):
    with pytest.raises(TypeError, match="evry: got an unknown argument"): train(bars, minutes=1., out=tmp_path/"run", checkpoints=dict(evry=5))
    assert not (tmp_path/"run").exists()


def test_what_was_found_is_found_again_in_a_new_training(tmp_path):
    found = lambda n, **more: checkpoints.remembered(tmp_path, "steps", lambda: n, **more)
    assert [found(1), found(2), found(3, anew=True), found(4)] == [1, 1, 3, 3]


def test_ctrl_c_gives_back_what_was_learned(tmp_path, bars, small):
    usual = signal.getsignal(signal.SIGINT)
    stop = lambda *_: signal.raise_signal(signal.SIGINT)
    stopped = train(bars, callback=stop, **small)
    assert len(stopped.history["loss"]) == 2 and signal.getsignal(signal.SIGINT) == usual
    out = tmp_path/"run" # it is saved, too, but does not pass for finished
    train(bars, callback=stop, out=out, **small)
    assert len(load(out, model=small["model"], optimizer=small["optimizer"]).history["loss"]) == 2
    with pytest.raises(ValueError, match="already holds a run"): train(bars, out=out, **small)
    again = train(bars, out=out, resume=True, **small)
    np.testing.assert_array_equal(again.history["loss"], train(bars, **small).history["loss"])


class Broken(Exception):
    "An error of the user's."


def broken_callback(at):
    def callback(step, metrics, run):
        if step == at: raise Broken("no answer")
    return dict(callback=callback)


def test_failing_callback_loses_nothing(tmp_path, bars, two_days, undisturbed):
    "The error stays what it is; the folder has the run and goes on to the same end."
    with pytest.raises(Broken, match="no answer") as failed: train(bars, out=tmp_path/"run", **two_days | broken_callback(300))
    assert failed.traceback[-1].name == "callback" and "at step 300 is kept: load(" in failed.value.__notes__[0]
    kept = load(tmp_path/"run", model=two_days["model"], optimizer=two_days["optimizer"])
    assert len(kept.history["loss"]) == 300 and same_run(kept, failed.value.run)
    assert same_run(train(bars, out=tmp_path/"run", resume=True, **two_days), undisturbed)


def test_failing_callback_without_folder_carries_the_run(bars, two_days):
    with pytest.raises(Broken) as failed: train(bars, **two_days | broken_callback(200) | dict(checkpoints={}))
    assert len(failed.value.run.history["loss"]) == 200 and "as `.run`" in failed.value.__notes__[0]


def test_nothing_to_keep_before_the_first_report(tmp_path, bars, two_days):
    def no_memory(updates, state, params=None): raise MemoryError("out of memory")
    broken = optax.GradientTransformation(optax.sgd(1e-3).init, no_memory)
    with pytest.raises(MemoryError) as failed: train(bars, out=tmp_path/"run", **two_days | dict(optimizer=broken))
    assert not hasattr(failed.value, "run") and "is kept" not in str(getattr(failed.value, "__notes__", ""))
    assert len(train(bars, out=tmp_path/"run", resume=True, **two_days | dict(steps=100)).history["loss"]) == 100, "the folder is free"


def test_callback_stops_with_true(bars, two_days):
    stopped = train(bars, **two_days | dict(callback=lambda step, metrics, run: metrics["loss"] < 1e9 and step >= 200, checkpoints={}))
    assert len(stopped.history["loss"]) == 200 and stopped.final


def test_lost_training_keeps_its_last_report(tmp_path, bars, small):
    "A loss that becomes no number after two reports: what there was by then is kept, and can be trained further."
    late = optax.sgd(lambda i: jnp.where(i < 10, 1e-3, 1e30))
    with pytest.raises(FloatingPointError, match="The run as it was at step 10 is kept"):
        train(bars, model=Dense(60, 16, nnx.Rngs(0)), optimizer=late, steps=20, log_every=5, out=tmp_path/"run", progress=False)
    good = load(tmp_path/"run", model=Dense(60, 16, nnx.Rngs(0)))
    assert len(good.history["loss"]) == 10
    assert len(train(bars, **(small | dict(model=good))).history["loss"]) == 4
