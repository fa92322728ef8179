"""The recipe from the pictures, a budget of time, and going on with a run."""
import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from networks import Dense, dense_for
from PIL import Image

import unetdiff
from unetdiff import Recipe, train
from unetdiff.cli import main
from unetdiff.diffusion import suited_noise, schedules, shifted
from unetdiff.engine.devices import at_a_time
from unetdiff.engine.loop import in_words, steps_in, steps_until
from unetdiff.training import adamw, presets, recipe_for, usual_lr
from unetdiff.unet import UNet, init, net_for, unet_for, whole_net

rng = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 9, 1), (8, 8, 1), (16, 16, 3), (27, 20, 3), (28, 28, 1), (64, 64, 3), (100, 40, 4)])
def test_network_for_any_shape(shape):
    "It can be built, gives back the shape, and its bridge is small."
    net = net_for(shape)
    model = nnx.eval_shape(lambda: UNet(shape[-1], shape[-1], **net, rngs=nnx.Rngs(0)))
    x, t = jnp.zeros((1, *shape)), jnp.zeros(1)
    assert nnx.eval_shape(lambda m, x, t: m(x, t), model, x, t).shape == (1, *shape)
    lowest = -(-max(shape[:2])//net["patch_size"])/2**len(net["channel_mults"])
    assert lowest <= 5, f"{lowest} positions a side are left for the bridge of {shape}"


def test_digits_give_the_default(): assert recipe_for(np.asarray(unetdiff.digits()[0])) == Recipe()


def test_what_is_set_is_taken():
    x = rng.random((20, 32, 32, 3), np.float32)
    chosen = recipe_for(x)
    for name, v in dict(shift=1.5, sigma_data=.3, guidance=2., interval=(.1, 1.), spacing="uniform", steps=7).items():
        assert getattr(recipe_for(x, **{name: v}), name) == v
    assert recipe_for(x, net=dict(features=8)).net == chosen.net | dict(features=8), "what `net` does not say follows from the pictures"
    assert recipe_for(x, time_sampler="logit_normal").shift == 1, "another distribution of times is taken as it is"
    assert chosen.shift == 2.83 and chosen.interval == (0., 2.4) and chosen.spacing == "karras" and chosen.sampler == "dpmpp_2m_sde"


@pytest.mark.parametrize("images, spread", [(np.zeros((3, 8, 8, 1)), .01), (np.tile([0., 1.], (3, 8, 4))[..., None], 1.), (rng.random((50, 9, 7, 3)), .58)])
def test_spread_is_measured(images, spread): assert abs(suited_noise(images)["sigma_data"] - spread) < .02


def test_range_counts_for_the_spread():
    x = rng.random((50, 8, 8, 1))
    assert suited_noise(x, pixel_range=(0., 1.))["sigma_data"] == pytest.approx(suited_noise(x)["sigma_data"]/2, abs=.01)


def test_shift_moves_the_noise_ratio():
    t = np.linspace(.3, .6, 5)
    for name in ("log_linear", "flow", "cosine"):
        s = schedules[name]
        ratio = np.exp((s.log_snr(t) - s.log_snr(shifted(s, t, 3.)))/2)
        np.testing.assert_allclose(ratio, 3, rtol=2e-3, err_msg=f"three times the noise, on {name}")
        assert shifted(s, t, 1.) is t


def bars(n=40):
    x = np.zeros((n, 6, 10), np.float32)
    for bar, row, length in zip(x, rng.integers(0, 6, n), rng.integers(3, 11, n)): bar[row, :length] = 1
    return x


def dense(): return Dense(60, 16, nnx.Rngs(0))

quick = dict(batch_size=8, log_every=10, progress=False)


@pytest.mark.parametrize("seed", range(3))
def test_going_on_lowers_the_loss(seed):
    x = bars(100)
    first = train(x, model=dense(), steps=200, seed=seed, **(quick | dict(log_every=50)))
    more = train(x, model=first, steps=100, seed=seed + 1, **(quick | dict(log_every=50)))
    assert more.history["test_loss"][-1] < first.history["test_loss"][-1], "going on should lower the held-out loss"
    assert more.recipe.lr == pytest.approx(Recipe().highest_lr*(1 + np.cos(np.pi*2/3))/2) and train(x, model=first, steps=10, lr=1e-4, **quick).recipe.lr == 1e-4


def test_finished_run_takes_more_steps(tmp_path):
    x, same = bars(), dict(model=dense(), out=tmp_path/"run", resume=True, **quick)
    first = train(x, steps=20, **same)
    longer = train(x, steps=40, **same)
    np.testing.assert_array_equal(longer.history["loss"][:20], first.history["loss"])
    assert len(longer.history["loss"]) == 40 and len(unetdiff.load(tmp_path/"run", model=dense()).history["loss"]) == 40
    again = train(x, steps=40, **same)
    np.testing.assert_array_equal(again.model.a.kernel[...], longer.model.a.kernel[...])
    with pytest.raises(ValueError, match="steps: got 30, but takes at least the 40"): train(x, steps=30, **same)


def test_learning_rate_of_the_recipe():
    assert Recipe().highest_lr == .012 and Recipe(optimizer="adamw").highest_lr == 6e-3 and Recipe(optimizer="clipped_adamw").highest_lr == 1e-4 and Recipe(lr=.01).highest_lr == .01
    assert Recipe(optimizer=adamw, lr=.1).highest_lr == .1, "the package's own optimizers take a learning rate"
    assert Recipe(optimizer=optax.sgd(1.)).highest_lr is None and [f(4000) for f in usual_lr.values()] == [6e-3, .012, 1e-4] and [Recipe(steps=n).highest_lr for n in (6000, 24000)] == [.012, .006]
    with pytest.raises(ValueError, match="lr: got 0.1, but takes nothing beside an optimizer of your own"): Recipe(lr=.1, optimizer=optax.sgd(1.))
    slow, fast = (train(bars(), model=dense(), steps=10, lr=lr, **quick).history["test_loss"][-1] for lr in (1e-6, 1e-2))
    assert fast < slow, "the learning rate does not reach the optimizer"


def test_going_on_with_ones_own_optimizer():
    first = train(bars(), model=dense(), optimizer=optax.adam(1e-3), steps=10, **quick)
    more = train(bars(), model=first, steps=10, **quick)
    assert more.recipe.lr is None and len(more.history["loss"]) == 10


def test_minutes_become_steps_and_stay(tmp_path, monkeypatch):
    x = bars()
    found = iter([30, 50])
    monkeypatch.setattr("unetdiff.training.steps_in", lambda minutes, trial, settings_for: next(found))
    same = dict(model=dense(), out=tmp_path/"run", resume=True, **quick)
    assert len(train(x, minutes=2., **same).history["loss"]) == 30
    assert json.loads((tmp_path/"run"/"found.json").read_text())["steps in 2.0 minutes"] == 30
    assert len(train(x, minutes=2., **same).history["loss"]) == 30, "the number that was found first is used again"
    assert len(train(x, minutes=3., **same).history["loss"]) == 50, "more minutes are more steps"


def test_minutes_for_the_digits(monkeypatch):
    monkeypatch.setattr("unetdiff.training.steps_in", lambda minutes, trial, settings_for: 20)
    run = unetdiff.train_digits(1, model=Dense(64, 8, nnx.Rngs(0)), minutes=1, **quick)
    assert len(run.history["loss"]) == 20
    with pytest.raises(ValueError, match="minutes: got 1"): unetdiff.train_digits(1, steps=5, minutes=1)


def test_minutes_are_measured():
    run = train(bars(), model=dense(), minutes=.05, **quick)
    assert len(run.history["loss"]) >= 1
    for bad, says in ((dict(minutes=0), "minutes: got 0, but takes a number above 0"), (dict(minutes=1, steps=5), "minutes: got 1, but takes no number of steps beside it")):
        with pytest.raises(ValueError, match=says): train(bars(), model=dense(), **bad, **quick)


def test_pictures_are_read_once_where_minutes_are_given():
    "What was read to count the steps is not read again; words for labels are taken, too."
    read = []
    class Source:
        def __len__(self): return 40
        def __getitem__(self, i):
            read.append(i)
            return bars()[i]
    run = train(Source(), ["a", "b"]*20, model=Dense(60, 8, nnx.Rngs(0), classes=2), minutes=.05, **quick)
    assert run.names == ["a", "b"] and len(run.history["loss"]) >= 1
    assert max(map(read.count, range(1, 40))) == 1, "a picture was read twice" # the first tells the shape


class Clock:
    "Time that passes only while steps are made: 2 s to compile, 0.1 s a step (or as said), 0.5 s a report."
    def __init__(self, monkeypatch):
        self.now, self.tried = 0., []
        monkeypatch.setattr("unetdiff.engine.loop.time.monotonic", lambda: self.now)

    def trial(self, callback, step=.1):
        self.tried.append(step)
        for steps, compiling in ((20, 2), (20, 0), (5, 0)):
            self.now += compiling + step*steps + .5
            callback()


def test_steps_until_a_time(monkeypatch):
    clock = Clock(monkeypatch)
    spent = 2*(2 + 2 + .5) + 2 + .5 + .5 + .5
    assert steps_until(120, clock.trial) == pytest.approx((120 - spent)/(.1 + .5/100), abs=2)


def test_settings_that_follow_from_the_steps_are_timed(monkeypatch):
    clock = Clock(monkeypatch)
    n = steps_in(2., clock.trial, lambda steps: dict(step=.1 if steps < 500 else .15))
    spent = clock.now + 2 + .15*20 + .5
    assert clock.tried == [.1, .15] and n == pytest.approx((120 - spent)/(.15 + .5/100), abs=2), "the dearer steps are not counted"
    steps_in(2., clock.trial, lambda steps: dict(step=.1))
    assert clock.tried == [.1, .15, .1], "tried again for nothing"


def test_few_pictures_are_timed_with_what_keeps_them_from_being_copied(monkeypatch):
    "Dropout and changed pictures make a step dearer; they follow from the number of steps."
    seen = []
    def steps_in(minutes, trial, settings_for):
        seen.extend([settings_for(45), settings_for(4000)])
        return 5
    monkeypatch.setattr("unetdiff.training.steps_in", steps_in)
    train(bars(), minutes=1, net=dict(features=8, channel_mults=(1,), patch_size=1), batch_size=8, log_every=5, progress=False)
    (short, long), net = seen, dict(features=8, channel_mults=(1,), patch_size=1)
    assert short["augment"] == 0 and net.items() <= short["net"].items() and "dropout" not in short["net"]
    assert long["augment"] > 0 and long["net"] == short["net"] | dict(dropout=.1)


def test_block_before_a_training(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    loud = dict(quick, progress=True, model=dense(), steps=10, out=tmp_path/"run")
    train(bars(), **loud)
    said = capsys.readouterr().out
    for words in ("pictures: 38 of 6 x 10 x 1, no labels", "network: 2,012 parameters, your own", "shift 1.18", "steps 10", "interval (0.0, 0.75)"): assert words in said, f"{words!r} is missing in {said}"
    with pytest.raises(ValueError, match="another run"): train(bars(), resume=True, **(loud | dict(seed=5)))
    assert "pictures:" not in capsys.readouterr().out, "nothing is said before it is clear that training can begin"


def test_settings_in_words():
    recipe = replace(Recipe(), sampler="ddim", weighting=lambda log_snr, g2, s: 1.)
    lines = in_words(recipe, dict(a="first"), dict(a=("steps",), b=("sampler", "weighting", "net")))
    assert lines[0] == f"a: first; steps {Recipe().steps}" and lines[1].startswith("b: sampler ddim, weighting <lambda>, net features 32")


@pytest.fixture
def chosen(monkeypatch):
    "The recipes that trainings would have had; they end at once."
    recipes = []
    monkeypatch.setattr("unetdiff.training.fit_watched", lambda net, recipe, *_: recipes.append(recipe))
    return recipes


def test_presets_stay_as_they_are_where_digits_are_few(chosen):
    "The tutorial has neither dropout nor changed pictures, nor has a recipe of one's own; the default has both for one digit, of which there are 170."
    for preset in (replace(presets["tutorial"], net=presets["tutorial"].net | dict(features=8)), Recipe(net=dict(features=8, channel_mults=(1,)), lr=.01)):
        unetdiff.train_digits(1, preset=preset)
        assert chosen[-1] == replace(preset, net=whole_net(preset.net)), "the preset has changed"
    unetdiff.train_digits(1)
    assert chosen[-1].augment == .125 and chosen[-1].net["dropout"] == .1
    unetdiff.train_digits()
    assert chosen[-1] == presets["default"]
    unetdiff.train_digits(1, preset=preset, minutes=None)
    assert chosen[-1].steps == preset.steps


def test_a_run_goes_on_with_the_digits_and_its_own_recipe(chosen):
    same = dict(net=dict(features=8, channel_mults=(1,)), lr=.01)
    digits = unetdiff.data.digits(1)[0]
    for recipe in (Recipe(**same, prediction="eps", pixel_range=(0., 1.), optimizer="adamw", augment=.1), Recipe(**same, dtype="bfloat16")):
        net = init(unet_for(recipe, 1, None))
        run = unetdiff.Run(net, recipe, dict(loss=[0.]), (digits[:4], None), dict(shape=[8, 8, 1], classes=None, label_counts=None, seed=0, own_net=False, data=0))
        unetdiff.train_digits(1, model=run, steps=7, lr=.01)
        assert chosen[-1] == replace(recipe, steps=7)
    with pytest.raises(ValueError, match="preset: got 'tutorial', but takes none where a run goes on"): unetdiff.train_digits(1, model=run, preset="tutorial")


@pytest.mark.parametrize("entry", ["sampler", "spacing", "thresholding"])
def test_misspelt_names_are_refused_before_training(entry):
    with pytest.raises(ValueError, match=f"{entry}: got 'heunn', but takes one of"): Recipe(**{entry: "heunn"})


def test_all_pictures_in_parts():
    "Where each step takes all pictures, in more parts than devices can share evenly, a few are left out; more parts than pictures are refused."
    x = np.random.default_rng(0).random((20, 8, 8), np.float32)
    for n, parts in ((4, 2), (20, 16)):
        with pytest.warns(UserWarning, match="are used"): assert len(train(x[:n], model=Dense(64, 8, nnx.Rngs(0)), batch_size=None, grad_accum_steps=parts, steps=2, log_every=2, progress=False).history["loss"]) == 2
    with pytest.raises(ValueError, match="grad_accum_steps: got 32, but takes at most 19"): train(x, model=Dense(64, 8, nnx.Rngs(0)), batch_size=None, grad_accum_steps=32, progress=False)
    assert at_a_time(None, 64) == 2


@pytest.fixture
def photos(tmp_path):
    "A folder of coloured pictures in two classes."
    for name, colour in (("sky", (90, 120, 250)), ("grass", (40, 160, 60))):
        (tmp_path/"photos"/name).mkdir(parents=True)
        for i in range(10):
            noise = rng.integers(-30, 30, (12, 10, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(tmp_path/"photos"/name/f"{i}.png")
    return tmp_path/"photos"


def test_the_command_on_a_folder(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("unetdiff.training.unet_for", dense_for)
    out = tmp_path/"run"
    main(pictures=str(photos), size=8, steps=20, out=str(out), uncached=True)
    assert {p.name for p in out.iterdir()} >= {"samples.png", "loss.png", "run.json", "model.safetensors"}
    run = unetdiff.load(out)
    assert run.names == ["grass", "sky"] and run.info["shape"] == [8, 8, 3]


@pytest.mark.parametrize("options, says", [(dict(size=8), "size: got 8, but takes none without a folder"), (dict(channels=3), "channels: got 3"),
                                           (dict(pictures="photos", digit=3), "digit: got 3, but takes none with pictures"), (dict(pictures="photos", preset="tutorial"), "preset: got 'tutorial'"),
                                           (dict(pictures="nowhere"), "nowhere', which is no folder"), (dict(minutes=-1.), "minutes: got -1.0")])
def test_what_does_not_go_together(photos, monkeypatch, options, says):
    monkeypatch.chdir(photos.parent)
    with pytest.raises(SystemExit) as end: main(**options, uncached=True)
    assert says in end.value.code
    assert not Path("run").exists() and not Path("digits").exists(), "a refused training has written something"
