"""Figures, players, animations and the monitor: what they draw, write and refuse."""
import io
import json
import os
import re
from base64 import b64decode

import numpy as np
import pytest
from flax import nnx
from IPython.utils.capture import capture_output
from networks import Dense
from PIL import Image

from unetdiff import train
from unetdiff.sampling import sample_batch
from unetdiff.viz import draw_progress, filmstrip, image_grid, monitor, png_bytes, scrubber, to_gif

few = dict(steps=4, batch_size=8) # nearly all samples of the tiny run share two compiled programs


def opened(uri):
    "The pixels of a picture in a data URI."
    return np.asarray(Image.open(io.BytesIO(b64decode(uri.split(",")[1]))))


def walks_of(player):
    "What the page of a player was filled with."
    return json.loads(re.search(r'getElementById\("scrub-\w+"\), (\{.*\})\);', player.data)[1].replace(r"<\/", "</"))


def test_loss_curve_shows_the_history_on_a_log_axis(bundled):
    ax = bundled.plot_loss().axes[0]
    assert ax.get_yscale() == "log" and len(ax.lines) == 2
    assert np.array_equal(ax.lines[0].get_ydata(), bundled.history["loss_ema"])
    assert np.array_equal(ax.lines[1].get_ydata(), bundled.history["test_loss"])


def test_sheet_has_a_column_for_each_label(tiny_run):
    assert len(tiny_run.plot_sheet(rows=2, **few).axes) == 20


def test_samples_stand_below_their_originals(tiny_run):
    fig = tiny_run.plot_samples(**few)
    assert len(fig.axes) == 18
    assert [ax.get_ylabel() for ax in fig.axes[::9]] == ["Original", "Reconstructed"]
    shown, held_out = np.asarray(fig.axes[0].images[0].get_array()), np.asarray(tiny_run.held_out[0])[0, ..., 0]
    assert np.abs(shown - held_out).max() <= 1e-6
    images, labels = tiny_run.held_out
    assert len(tiny_run.plot_samples(images[:3], labels[:3], **few).axes) == 6


def test_roads_begin_and_end_where_they_should(tiny_run):
    image, label = np.asarray(tiny_run.held_out[0][0]), int(tiny_run.held_out[1][0])
    t, there = tiny_run.forward_path(image)
    assert there.shape == (9, 8, 8, 1) and np.abs(np.asarray(there[0]) - image).max() < .02
    assert np.abs(t - np.linspace(0, 1, 9)).max() <= 1e-6
    s, back = tiny_run.reverse_path(image, label, **few)
    assert back.shape == (5, 8, 8, 1) and (np.diff(s) < 0).all()
    end = np.asarray(tiny_run.reconstruct(image[None], label, **few)[0])
    assert np.abs(back[-1] - end).max() <= 1e-5


def test_forward_and_reverse_names_its_rows_and_times(tiny_run):
    fig = tiny_run.plot_forward_and_reverse(**few) # four steps have five stops, fewer than the nine frames above
    assert len(fig.axes) == 18
    assert [ax.get_ylabel() for ax in fig.axes[::9]] == ["Forward", "Reverse"]
    assert [fig.axes[i].get_title() for i in (0, 8, 13, 14)] == ["t = 0", "t = 999", "t = 0", ""]


def test_filmstrip_gives_the_frames_back():
    frames = np.random.default_rng(0).random((5, 8, 8, 1)).astype(np.float32)
    got = opened(filmstrip(frames))
    assert got.shape == (8, 40)
    assert np.abs(got[:, 24:32]/255 - frames[3, ..., 0]).max() <= .003
    assert opened(filmstrip(np.ones((2, 4, 6, 3)))).shape == (4, 12, 3)


def test_player_offers_each_choice_and_holds_each_walk(tiny_run):
    player = tiny_run.scrub(labels=[5, 3], samplers=["ddim", "dpmpp_2m"], **few)
    walks = walks_of(player)
    assert walks["menus"] == [["digit", ["5", "3"]], ["sampler", ["ddim", "dpmpp_2m"]]]
    assert walks["captions"][-1].startswith("step 4 of 4") and player.data.count("data:image/png") == 4 + 1 # and the still picture
    assert walks["size"] == [8, 8]
    walk = np.asarray(tiny_run.sample(2, [5, 3], sampler="ddim", spacing="karras", path=True, **few))
    assert np.abs(opened(walks["strips"]["3"]["ddim"])/255 - np.concatenate(walk[:, 1, ..., 0], 1)).max() <= .003
    assert np.asarray(Image.open(io.BytesIO(player._repr_png_()))).shape == (2*50, 5*50) # a row of frames for each label


def test_two_players_have_two_names_and_no_text_ends_the_script():
    frames = np.ones((2, 4, 6, 3))
    a, b = (scrubber({"</script>": {"x": frames}}, ["</script>", "b"]).data for _ in range(2))
    assert re.search(r"scrub-\w+", a)[0] != re.search(r"scrub-\w+", b)[0]
    assert a.count("</script>") == 1 and "$" + "walks" not in a


def frames_of(file):
    "Of a GIF: pixels in [0, 1] and milliseconds of each frame."
    gif, found = Image.open(file), []
    for i in range(gif.n_frames):
        gif.seek(i)
        found.append((np.asarray(gif.convert("RGB"))/255, gif.info["duration"]))
    return zip(*found)


def test_animation_is_shown_and_written(tiny_run, tmp_path):
    shown = tiny_run.animate(3, tmp_path/"walk.gif", label=[3, 5, 8], seed=1, ms=50, **few).data
    assert 'alt="From noise to 3 pictures in 4 steps"' in shown
    assert os.listdir(tmp_path) == ["walk.gif"]
    assert b64decode(shown.split("base64,")[1].split('"')[0]) == (tmp_path/"walk.gif").read_bytes()
    pictures, ms = frames_of(tmp_path/"walk.gif")
    assert ms == (50,)*4 + (2050,) and pictures[0].shape == (50, 3*50, 3)
    end = np.asarray(tiny_run.sample(3, [3, 5, 8], seed=1, spacing="karras", path=True, **few))[-1, ..., 0] # [3, 8, 8]
    for i in range(3): assert np.abs(pictures[-1][:48:6, 50*i:50*i + 48:6, 0] - end[i]).max() <= .003


def test_animation_in_colour():
    ramp = np.linspace(0, 1, 3*2*5*7*3).reshape(3, 2, 5, 7, 3) # three frames of two pictures
    pictures, _ = frames_of(io.BytesIO(to_gif(ramp, 20)))
    assert len(pictures) == 3 and pictures[0].shape == (32, 2*44, 3)
    assert np.abs(pictures[2][:30:6, 44:86:6] - ramp[2, 1]).max() <= .05


def test_animation_refuses_a_missing_folder_and_no_time(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="out: got"): tiny_run.animate(out=tmp_path/"none"/"walk.gif")
    with pytest.raises(ValueError, match="ms: got 0"): tiny_run.animate(ms=0)


def test_grid_fills_up_with_grey():
    five = np.asarray(image_grid(np.ones((5, 4, 6, 3)), 2, zoom=1, gap=1))
    assert five.shape == (15, 14, 3)
    assert np.array_equal(np.unique(five[:, 6]), [128]) and (five == 255).sum() == 5*4*6*3


@pytest.fixture(scope="module")
def watched(digit_images, digit_labels):
    "A function that trains for five steps in colour, not square, without labels, and counts the monitor's drawings."
    tall = digit_images[digit_labels == 1][:, :, 2:6].repeat(3, -1) # [n, 8, 4, 3]
    def watched(out, seen=lambda *_: None, **kwargs):
        watch, drawn = monitor(out, n=12, **kwargs), []
        keep = watch.draw
        def draw(step, *rest):
            keep(step, *rest)
            drawn.append(step)
        watch.draw = draw
        def callback(*report):
            seen(*report)
            watch(*report)
        with capture_output(): # where this page has a kernel, the monitor draws on it
            run = train(tall, model=Dense(96, 32, nnx.Rngs(0)), batch_size=8, steps=5, log_every=1,
                        sample_steps=4, progress=False, callback=callback)
        return run, drawn, watch
    return watched


def test_monitor_draws_at_each_report_with_one_program(watched, tmp_path):
    programs, out = [], tmp_path/"new"/"pictures"
    run, drawn, watch = watched(out, seen=lambda step, *_: programs.append(sample_batch.kept.cache_info().misses) if step > 1 else None, share=1e9)
    assert drawn == [1, 2, 3, 4, 5] # as often as it likes
    assert sorted(os.listdir(out)) == ["loss.png", "samples.png"]
    assert (out/"samples.png").read_bytes() == draw_progress(run, 12)["samples.png"]
    assert np.asarray(Image.open(out/"samples.png")).shape == (2*98, 10*50, 3)
    assert watch.next is None and programs == programs[:1]*4


def test_monitor_rests_but_draws_the_first_and_the_last(watched, tmp_path):
    run, drawn, _ = watched(tmp_path, share=1e-6)
    assert drawn == [1, 2, 5] # the first compiles, the second tells what a drawing costs
    assert (tmp_path/"samples.png").read_bytes() == draw_progress(run, 12)["samples.png"]


def test_monitor_scores_on_request(watched, tmp_path, digit_images, digit_labels):
    tall = digit_images[digit_labels == 1][:, :, 2:6].repeat(3, -1)
    run, drawn, watch = watched(tmp_path, share=1e9, scores=20, images=tall)
    assert list(watch.scored) == drawn and {s["n"] for s in watch.scored.values()} == {20}
    assert sorted(os.listdir(tmp_path)) == ["loss.png", "samples.png", "scores.png"]
    assert dict(watch.scored[5]) == dict(run.evaluate(20, images=tall)), "the last scores should be those of the finished run"
    assert watch.images is watch.scored[1].reference, "what is known of the real pictures should be kept"


@pytest.mark.parametrize("bad, said", [(dict(out=3), "out: got 3"), (dict(n=0), "n: got 0"), (dict(share=0), "share: got 0"),
                                       (dict(share="x"), "share: got 'x'"), (dict(scores=5), "scores: got 5"), (dict(scores="x"), "scores: got 'x'")])
def test_monitor_refuses(bad, said):
    with pytest.raises(ValueError) as error: monitor(**bad)
    assert said in str(error.value)


def test_explore_follows_each_control(tiny_run):
    *controls, picture, out = tiny_run.explore(n=8).children
    control = {c.description: c for c in controls}
    assert set(control) == {"sampler", "steps", "seed", "label", "guidance"}
    before = picture.value
    assert before[:4] == b"\x89PNG", "there should be a picture at once"
    for name, value in dict(steps=4, label=3, guidance=4., seed=5, sampler="ddim").items():
        control[name].value = value
        assert picture.value != before, f"the picture should follow {name}"
        before = picture.value
    want = png_bytes(tiny_run.sample(8, 3, guidance=4., seed=5, steps=4, sampler="ddim", batch_size=8), 8)
    assert picture.value == want
    assert np.asarray(Image.open(io.BytesIO(want))).shape == (50, 8*50)
