"""Runs for others: the card, the Hub, and where losses are looked at."""
import re
import sys
from types import SimpleNamespace

import hub
import numpy as np
import pytest

from unetdiff import load, report_to, to_tensorboard, to_wandb, train

pytest.importorskip("huggingface_hub")


@pytest.fixture
def server(monkeypatch):
    "A Hub on this machine, and a token that it takes."
    server = hub.serve()
    for name, v in dict(HF_ENDPOINT=server.address, HF_TOKEN="right", HF_HUB_DISABLE_PROGRESS_BARS="1").items(): monkeypatch.setenv(name, v)
    monkeypatch.setattr("huggingface_hub.utils._auth._get_token_from_file", lambda: None)
    yield server
    server.shutdown()


def test_there_and_back(server, bundled):
    "The same run comes back; only known files are asked for, and the card names the address."
    assert bundled.push_to_hub("you/digits") == f"{server.address}/you/digits"
    files = server.repositories["you/digits"]
    assert sorted(files) == ["README.md", "held_out.safetensors", "model.safetensors", "run.json", "samples.png"]
    assert b'load("hf://you/digits")' in files["README.md"] and files["samples.png"].startswith(b"\x89PNG")
    files["evil.py"] = b"raise SystemExit"
    server.asked.clear()
    back = load("hf://you/digits")
    assert not any(name in path for path in server.asked for name in ("evil", "README", "samples")), server.asked
    assert np.array_equal(back.sample(2, 3), bundled.sample(2, 3)) and back.recipe == bundled.recipe
    load("hf://you/digits@v2")
    assert any("/resolve/v2/" in path for path in server.asked)
    bundled.push_to_hub("you/digits", card=bundled.evaluate(100)) # again, with scores
    assert b"| new real" in files["README.md"]


@pytest.mark.parametrize("address, said", [("hf://you/nothing", "path: got 'hf://you/nothing', but takes a repository that exists"), ("hf://you/empty", "a repository with the file run.json"),
                                           ("hf://you me!", "takes a name like 'you/digits'")])
def test_what_cannot_be_loaded(server, address, said):
    server.repositories["you/empty"] = {"README.md": b""}
    with pytest.raises(ValueError, match=re.escape(said)): load(address)


def test_a_token_is_asked_for(server, least_run, monkeypatch):
    for token in ("wrong", None):
        if token is None: monkeypatch.delenv("HF_TOKEN")
        else: monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(ValueError, match="name: got 'you/x', but takes a token that may do this"): least_run.push_to_hub("you/x")
    assert not server.repositories


def test_no_network(least_run, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="path: got 'hf://you/x', but the Hub cannot be asked"): load("hf://you/x")
    with pytest.raises(ConnectionError, match="name: got 'you/x', but the Hub cannot be asked"): least_run.push_to_hub("you/x")


@pytest.mark.parametrize("missing, act, said", [("huggingface_hub", lambda: load("hf://you/x"), "hub"), ("tensorboardX", lambda: to_tensorboard("logs"), "tensorboard"), ("wandb", lambda: to_wandb("mine"), "wandb")])
def test_missing_packages_are_named(monkeypatch, tmp_path, missing, act, said):
    monkeypatch.chdir(tmp_path)
    for module in ("unetdiff.engine.hub", "unetdiff.sharing"): monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape(f"pip install unetdiff[{said}]")): act()
    assert not [*tmp_path.iterdir()]


def test_a_card_of_any_run(tmp_path, tiny_run, least_run):
    "Own networks, no labels, words; nothing is written where the card is wrong."
    assert 'load("x", model=network)' in tiny_run.card(address="x") and "of its own kind" in tiny_run.card()
    assert "without labels" in least_run.card() and "label=" not in least_run.card()
    least_run.save(tmp_path/"least", card=True)
    assert {"README.md", "samples.png", "run.json"} <= {file.name for file in (tmp_path/"least").iterdir()}
    with pytest.raises(ValueError, match="card: got 'yes'"): tiny_run.save(tmp_path/"other", card="yes")
    assert not (tmp_path/"other").exists()
    with pytest.raises(ValueError, match="already holds a run"): least_run.save(tmp_path/"least", card=True)


def test_reports(bars):
    "Losses each time, a sheet and scores every so often and at the end, also where `every` does not fit."
    seen = []
    train(bars, steps=10, log_every=2, batch_size=8, progress=False, net=dict(features=8, channel_mults=(1,)),
          callback=report_to(lambda *report: seen.append(report), every=4, scores=20, images=bars))
    assert [step for step, *_ in seen] == [2, 4, 6, 8, 10]
    assert [picture is not None for *_, picture in seen] == [False, True, False, True, True] == ["scores/precision" in numbers for _, numbers, _ in seen]
    assert all({"loss", "loss_ema", "test_loss"} <= numbers.keys() and all(type(v) is float for v in numbers.values()) for _, numbers, _ in seen)
    assert seen[-1][2].dtype == np.uint8 and seen[-1][2].ndim == 3


def test_tensorboard_files_hold_what_was_reported(bars, tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event
    train(bars, steps=4, log_every=2, batch_size=8, progress=False, net=dict(features=8, channel_mults=(1,)), callback=to_tensorboard(tmp_path/"logs", every=4))
    content, found, i = next((tmp_path/"logs").iterdir()).read_bytes(), set(), 0
    while i < len(content): # a record: its length in 8 bytes, 4 of a checksum, the event, 4 of a checksum
        n = int.from_bytes(content[i:i + 8], "little")
        event = Event.FromString(content[i + 12:i + 12 + n])
        found |= {(event.step, value.tag, value.WhichOneof("value")) for value in event.summary.value}
        i += 16 + n
    assert {(2, "loss", "simple_value"), (4, "test_loss", "simple_value"), (4, "samples", "image")} <= found and (2, "samples", "image") not in found


def test_wandb_gets_what_was_reported(bars, monkeypatch):
    "Against a stand-in that takes what `wandb` takes."
    logged = []
    def init(project, mode): return SimpleNamespace(log=lambda entries, step: logged.append((project, mode, step, {*entries})))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Image=np.asarray, __spec__=True))
    monkeypatch.setattr("unetdiff.sharing.find_spec", lambda name: True)
    train(bars, steps=4, log_every=2, batch_size=8, progress=False, net=dict(features=8, channel_mults=(1,)), callback=to_wandb("mine", settings=dict(mode="offline"), every=4))
    assert [(project, mode, step, "samples" in names, "loss" in names) for project, mode, step, names in logged] == [("mine", "offline", 2, False, True), ("mine", "offline", 4, True, True)]


@pytest.mark.parametrize("make, said", [(lambda: report_to(print, every=0), "every: got 0"), (lambda: report_to(print, scores=3), "scores: got 3"), (lambda: report_to(3), "write: got 3"), (lambda: to_tensorboard(3), "folder: got 3")])
def test_callbacks_refuse(make, said):
    with pytest.raises((ValueError, TypeError), match=re.escape(said)): make()
