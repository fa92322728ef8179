"""Features beside each other: what one of them promises holds in the company of others."""
from functools import partial

import numpy as np
import optax
import pytest
from flax import nnx
from networks import Dense

from unetdiff import digits, load, pictures, samplers, train
from unetdiff.cli import command
from unetdiff.engine.devices import sampling_mesh
from unetdiff.sampling import churned, ddim
from unetdiff.sharing import report_to
from unetdiff.viz import explore_controls, image_grid, monitor

rng = np.random.default_rng(0)
quick = dict(net=dict(features=8, channel_mults=(1,)), batch_size=8, steps=4, log_every=2, progress=False)
further = {name: v for name, v in quick.items() if name != "net"}


@pytest.fixture(scope="module")
def run(): return load()


@pytest.fixture(scope="module")
def half_seen(run):
    "A run that knows ten labels and has seen pictures of the last five alone."
    x, y = map(np.asarray, digits())
    return train(x[y > 4], y[y > 4], model=run, **further)


@pytest.fixture(scope="module")
def student(run): return run.distill(2, count=32, evaluations=4, progress=False)


@pytest.mark.parametrize("n", [9, 11, 26])
def test_any_number_at_a_time_on_several_devices(run, n):
    "Whatever shares it evenly; at least four rows a device."
    assert run.sample(n, batch_size=n, steps=1).shape == (n, 8, 8, 1)


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8])
def test_shares_are_even(devices):
    for size in range(1, 129):
        n = sampling_mesh(size, [*range(devices)]).size
        assert size % n == 0 and (n == 1 or size//n >= 4)


def test_labels_without_pictures_are_left_out(half_seen, tmp_path):
    assert half_seen.names == [*range(10)] and half_seen.seen_names == [5, 6, 7, 8, 9]
    assert [ax.get_title() for ax in half_seen.plot_sheet(rows=1, steps=1).axes] == ["5", "6", "7", "8", "9"]
    half_seen.animate(2, steps=1)
    half_seen.scrub(steps=1)
    half_seen.save(tmp_path/"run", card=True)
    assert "run.sample(16, label=5)" in (tmp_path/"run"/"README.md").read_text()


@pytest.mark.parametrize("answer, steps", [(np.bool_(True), 2), (np.array(True), 2), (True, 2), (None, 4), (1, 4), (np.float32(1), 4), (np.array([True]), 4), (False, 4)])
def test_a_callback_stops_with_any_kind_of_true(answer, steps):
    x = rng.random((24, 8, 8), np.float32)
    assert len(train(x, model=Dense(64, 8, nnx.Rngs(0)), callback=lambda *_: answer, **further).history["loss"]) == steps


def bright(x, strength): return strength*x.mean((1, 2, 3))


class Unhashable:
    __hash__ = None
    def __call__(self, x): return x.mean((1, 2, 3))


def test_arguments_of_a_wish_are_its_own(run):
    "Only a second argument that somebody has to give is how unsure the pixels are."
    mean = lambda steer: float(np.asarray(run.sample(4, 3, steps=3, steer=steer)).mean())
    plain = mean(lambda x: 100.*x.mean((1, 2, 3)))
    assert plain > mean(None) + .05
    np.testing.assert_allclose([mean(lambda x, k=100.: bright(x, k)), mean(partial(bright, strength=100.))], plain, rtol=1e-5)
    with pytest.raises(ValueError, match="steer: got .* but takes a function that can be hashed"): run.sample(4, steer=Unhashable())


def test_a_card_overwrites_nothing_and_leaves_nothing(run, tmp_path, monkeypatch):
    (tmp_path/"README.md").write_text("mine")
    with pytest.raises(ValueError, match="which holds README.md of something else"): run.save(tmp_path, card=True)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]
    def fails(*args): raise RuntimeError
    monkeypatch.setattr("unetdiff.sharing.sheet", fails)
    with pytest.raises(RuntimeError): run.save(tmp_path/"new", card=True)
    assert not (tmp_path/"new").exists()


@pytest.mark.parametrize("channels", [2, 4])
def test_pictures_of_any_channels_can_be_watched(channels, tmp_path):
    "Four channels are colour and opacity; of two the mean is drawn."
    x = rng.random((24, 8, 8, channels), np.float32)
    run = train(x, callback=monitor(tmp_path/"seen"), **quick)
    sheets = []
    report_to(lambda step, numbers, sheet: sheets.append(sheet.shape[-1]))(4, run.metrics, run)
    assert sheets == [{2: 1, 4: 4}[channels]] and image_grid(x, 4).mode == {2: "L", 4: "RGBA"}[channels]
    assert run.plot_samples() and (tmp_path/"seen"/"samples.png").exists()


def test_scores_of_a_run_with_a_condition(tmp_path):
    x, c = rng.random((48, 8, 8), np.float32), rng.random((48, 3), np.float32)
    watch = monitor(tmp_path, scores=20, images=x, condition=c)
    run = train(x, condition=c, callback=watch, **quick)
    assert [s["n"] for s in watch.scored.values()][-1] == 20
    assert "run.sample(16, condition=c)" in run.card()


def own_cut(x_0, lo, hi): return x_0


def test_a_card_names_what_has_to_be_handed_in():
    assert 'load("a folder", thresholding=thresholding)' in train(rng.random((24, 8, 8), np.float32), thresholding=own_cut, **quick).card()


def test_guidance_by_the_back_door_is_refused(run, student):
    for call, says in ((lambda: student.sample(2, {3: 3.}), "label: got {3: 3.0}, but takes one label for a picture"),
                       (lambda: run.sample(2, {3: 1., 8: 1.}, guidance=5.), "guidance: got 5.0, but takes None beside several labels"),
                       (lambda: run.sample(2, 3, guidance=1., weaker=run), "guidance: got 1.0, but takes another number than 1"),
                       (lambda: run.distill(2, count=32, guidance=2.), "guidance: got 2.0, but takes nothing here"),
                       (lambda: run.distill(2, count=32, flips=True), "flips: got True, but takes nothing here")):
        with pytest.raises(ValueError, match=says): call()
    assert "guidance" in explore_controls(run) and "guidance" not in explore_controls(student)


def test_a_student_with_an_optimizer_of_ones_own(run):
    assert run.distill(2, count=32, optimizer=optax.adam(1e-3), progress=False).recipe.lr is None
    assert run.distill(2, count=32, optimizer="muon", progress=False).recipe.highest_lr == .012
    assert run.distill(2, count=32, optimizer="adamw", batch_size=None, grad_accum_steps=3, progress=False).recipe.lr == run.distill(2, count=32, progress=False).recipe.lr


def test_a_students_student_is_not_told_of_ends(run):
    first = run.distill(2, method="shortcut", count=32, progress=False)
    with pytest.raises(ValueError, match="net: got ends=True, but takes it only with a loss"): train(rng.random((24, 8, 8), np.float32), net=dict(ends=True))
    assert first.recipe.net["ends"] and "ends" not in first.distill(2, count=32, progress=False).recipe.net


@pytest.mark.parametrize("teacher, says", [(dict(sampler=samplers["ddpm"]), "which draws fresh noise"), (dict(sampler="ddpm_large"), "which draws fresh noise"),
                                           (dict(spacing=churned("karras", .4)), "which draws fresh noise"), (dict(sampler=partial(ddim, eta=.5)), "which draws fresh noise")])
def test_a_teacher_draws_no_fresh_noise(run, teacher, says):
    with pytest.raises(ValueError, match=says): run.distill(2, count=32, teacher=teacher)


def test_a_walk_from_the_middle_has_its_own_captions(run): assert "noise to signal 2.00" in run.scrub([3], ["ddim"], steps=3, start=2.).data


def test_damaged_folders_are_refused(run, tmp_path):
    run.save(tmp_path/"run")
    (tmp_path/"run"/"held_out.safetensors").unlink()
    with pytest.raises(ValueError, match="path: got .* of which a part is missing"): load(tmp_path/"run")
    (tmp_path/"run"/"run.json").write_text("{}")
    with pytest.raises(ValueError, match="path: got .* of which a part is missing"): load(tmp_path/"run")
    with pytest.raises(ValueError, match="path: got .* not one within a file"): run.save(tmp_path/"run"/"run.json"/"sub")


@pytest.mark.parametrize("call, says", [(lambda run: run.draw_pairs(5, condition=3), "condition: got shape ()"), (lambda run: run.bits_per_dim(5), "images: got shape ()"),
                                        (lambda run: run.distill(count=1), "count: got 1"), (lambda run: run.sample(2, spacing=lambda s, n: [0., .5, 1.], start=99.), "start: got 99.0")])
def test_wrong_arguments_in_one_sentence(run, call, says):
    with pytest.raises(ValueError) as error: call(run)
    assert str(error.value).startswith(says)


class Element:
    "A data set of one-tuples, as PyTorch's `TensorDataset` of one tensor is; perhaps with more attributes."
    def __init__(self, **more): vars(self).update(more)
    def __len__(self): return 24
    def __getitem__(self, i):
        if i >= 24: raise IndexError
        return (np.full((8, 8), i/24, np.float32),)


@pytest.mark.parametrize("more", [{}, dict(features=np.ones((24, 3))), dict(features=["a"])])
def test_data_sets_of_one_tuples(more): assert pictures(Element(**more)).shape == (24, 8, 8, 1)


@pytest.mark.parametrize("source, says", [({"image": 1, "label": 2}, "images: got a dictionary of 'image', 'label'"), ("", "images: got ''")])
def test_what_is_no_source(source, says):
    with pytest.raises(ValueError) as error: pictures(source)
    assert str(error.value).startswith(says)


def test_an_empty_selection_is_refused():
    with pytest.raises(ValueError, match="images: got no pictures"): train(pictures(Element())[:0])


@pytest.mark.parametrize("words, says", [(["--n", "-3"], "n: got -3"), (["--out", "noext"], "out: got 'noext'"), (["--out", "nowhere/x.png"], "out: got 'nowhere/x.png'")])
def test_the_command_refuses_before_it_draws(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["unetdiff", "sample", "run", *words])
    with pytest.raises(SystemExit) as left: command()
    assert str(left.value).startswith(f"unetdiff: {says}")
