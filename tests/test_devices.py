"""Any number of devices computes the same; processes join when a training begins, and not before."""
import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import Dense

from unetdiff import Recipe
from unetdiff.data import to_range
from unetdiff.engine.devices import Layout, Programs, join_processes, map_batches, mesh_for, place, shard_axis
from unetdiff.training import TrainState, adamw, muon, train_steps

n = mesh_for(8).size # devices that share a batch of eight


def first_losses(images, labels, devices, fsdp=False, parts=1, steps=20, optimizer=adamw, **changes):
    "The losses of a small network's first steps on so many devices."
    recipe = Recipe(batch_size=8, log_every=steps, grad_accum_steps=parts, **changes)
    graph, params, rest = nnx.split(Dense(64, 32, nnx.Rngs(0), classes=10), nnx.Param, ...)
    layout = Layout(jax.sharding.Mesh(np.array(jax.devices()[:devices]), "batch"), fsdp, parts)
    optimizer = optimizer(100, flat=not fsdp)
    state = layout.start(lambda params, rest: TrainState(params, (params,), optimizer.init(params), rest), params, rest)
    data = place((to_range(images), labels, jax.random.key(0)), layout.everywhere)
    return np.asarray(train_steps(state, 0, steps, *data, graph=graph, recipe=recipe, optimizer=optimizer, hidden=10, layout=layout)[1])


@pytest.fixture(scope="module")
def one_device(digit_images, digit_labels): return first_losses(digit_images, digit_labels, 1, gradient_penalty=.02)


@pytest.mark.parametrize("fsdp", [False, True])
def test_devices_agree(digit_images, digit_labels, one_device, fsdp):
    shared = first_losses(digit_images, digit_labels, n, fsdp, gradient_penalty=.02)
    np.testing.assert_allclose(shared, one_device, rtol=1e-5, err_msg="other losses than on one device")


@pytest.mark.parametrize("fsdp", [False, True])
def test_devices_agree_on_matrices(digit_images, digit_labels, fsdp):
    "Muon brings up the weakest directions, and with them what was rounded."
    one, shared = (first_losses(digit_images, digit_labels, *where, optimizer=muon) for where in ((1,), (n, fsdp)))
    np.testing.assert_allclose(shared, one, rtol=1e-3, err_msg="other losses than on one device")


def test_parts_of_a_batch_agree(digit_images, digit_labels):
    "Without the penalty, which is made of the mean over a part."
    whole = first_losses(digit_images, digit_labels, 1)
    np.testing.assert_allclose(first_losses(digit_images, digit_labels, n, n > 1, parts=2), whole, rtol=1e-5)


def test_what_cannot_be_shared_evenly_stays_whole():
    assert [mesh_for(rows, [0]*4).size for rows in (8, 6, 7, 2)] == [4, 3, 1, 2]
    assert [shard_axis(s, 4) for s in ((3, 3, 8, 16), (8, 8), (3, 5), (), (4,))] == [3, 0, None, None, 0]


def test_what_is_compiled_beside_is_there():
    "The thread ends, also where the program cannot be compiled; the call has the right value or the error."
    counted = []
    def double(x, *, by):
        counted.append(by)
        return by*x + jnp.zeros(3)
    program = Programs(double)
    for x, by in ((jnp.ones(3), 2), (jnp.ones(4), 3)): program.compile_beside(x, by=by).join()
    np.testing.assert_array_equal(program(jnp.ones(3), by=2), [2, 2, 2])
    assert counted == [2, 3], "the call traced the program once more"
    with pytest.raises(TypeError, match="incompatible shapes"): program(jnp.ones(4), by=3)


def test_batches_of_one_size():
    batches = map_batches(lambda i, x, y: (np.asarray(i), np.asarray(x), y), (), (np.arange(10.), None), 4)
    assert [b[0].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    for i, x, y in batches:
        np.testing.assert_array_equal(x, i.astype(float))
        assert y is None


# --- joining processes


@pytest.fixture
def asked_to_join(monkeypatch):
    "How JAX's runtime would be started in an environment."
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: calls.append(args))
    monkeypatch.setattr("unetdiff.engine.devices.has_started", lambda: False)
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
    def ask(**env):
        calls.clear()
        with monkeypatch.context() as m:
            for name, v in env.items(): m.setenv(name, v)
            join_processes()
        return [*calls]
    return ask


by_hand = dict(JAX_COORDINATOR_ADDRESS="a:1", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="0")


@pytest.mark.parametrize("env, calls", [({}, []), (by_hand, [("a:1", 2, 0)]), (dict(SLURM_STEP_NUM_TASKS="1"), []), (dict(SLURM_STEP_NUM_TASKS="2"), [()]),
                                        (dict(OMPI_COMM_WORLD_SIZE="4"), [()]), (dict(TPU_WORKER_HOSTNAMES="a"), []), (dict(TPU_WORKER_HOSTNAMES="a,b"), [()])])
def test_environment_says_whether_to_join(asked_to_join, env, calls): assert asked_to_join(**env) == calls


class Metadata(BaseHTTPRequestHandler):
    "Google's server, as a host of a Cloud TPU sees it."
    def do_GET(self):
        ok = self.path.endswith("worker-network-endpoints") and self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if ok else 404)
        self.end_headers()
        self.wfile.write(self.server.hosts.encode())

    def log_message(self, *args): pass


def test_hosts_of_a_cloud_tpu(asked_to_join):
    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cloud = dict(TPU_ML_PLATFORM="JAX", GCE_METADATA_IP=f"127.0.0.1:{server.server_port}")
        for hosts, want in (("10.0.0.1", []), ("10.0.0.1,10.0.0.2", [()])):
            server.hosts = hosts
            assert asked_to_join(**cloud) == want
        assert asked_to_join(**cloud, TPU_SKIP_MDS_QUERY="1") == []
        server.shutdown()
    assert asked_to_join(**cloud) == [], "a server that does not answer is no reason to wait for others"


# --- what importing and calling do to a fresh process


def fresh(code, **env):
    "What a fresh process prints, as JSON, and how it ends."
    unset = {name: v for name, v in os.environ.items() if not name.startswith(("JAX_NUM", "XLA_FLAGS", "SLURM", "OMPI"))}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=unset | env)
    return done, json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def side_by_side(*codes, **env):
    "As `fresh`, of several processes at once."
    with ThreadPoolExecutor() as pool: return [*pool.map(lambda code: fresh(code, **env), codes)]


train_a_little = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from networks import dense_for
unetdiff.training.unet_for = dense_for
run = unetdiff.train_digits(steps=4, log_every=4, batch_size=8, progress=False)
print(json.dumps([jax.device_count(), run.history["loss"].tolist()]))"""


def test_digits_before_training_changes_nothing():
    "As many devices, the same bits."
    first = "import jax, json, unetdiff\nunetdiff.keep_compiled()\n"
    plain, after = (fresh(first + before + train_a_little) for before in ("", "unetdiff.digits(); unetdiff.load()"))
    assert plain[0].returncode == 0 and after[0].returncode == 0, plain[0].stderr + after[0].stderr
    assert plain[1] == after[1], "digits() or load() before a training changed its devices or its losses"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if jax.default_backend() == "cpu": assert plain[1][0] == min(4, cores), f"{plain[1][0]} devices on {cores} cores"


def test_importing_only_defines():
    "No device, no process, no setting of JAX, although the environment speaks of several tasks; a run can be loaded."
    code = """import jax, json
before = {k: v for k, v in jax.config.values.items()}
import unetdiff.training, unetdiff.sampling, unetdiff.viz, unetdiff.metrics, unetdiff.likelihood
from unetdiff.engine.devices import has_started
same = all(jax.config.values[k] == v for k, v in before.items())
started = has_started()
run = unetdiff.load()
print(json.dumps([same, started, jax.distributed.is_initialized(), run.classes]))"""
    done, got = fresh(code, SLURM_STEP_NUM_TASKS="4")
    assert done.returncode == 0, done.stderr
    assert got == [True, False, False, 10]


def test_training_too_late_to_join_says_so():
    late = "import unetdiff\nunetdiff.digits()\nunetdiff.train_digits(steps=1)"
    alone = "import unetdiff\nunetdiff.train_digits(steps=1)" # an interactive shell inside an allocation knows half of the story
    (done, _), (other, _) = side_by_side(late, alone, SLURM_STEP_NUM_TASKS="4")
    assert done.returncode and "processes: got several by the environment, after JAX has started" in done.stderr, done.stderr
    assert other.returncode and "processes: got several by the environment, which cannot be joined" in other.stderr, other.stderr


def test_programs_used_last_are_kept():
    program = Programs(lambda x, *, n: x*n, keep=2)
    first = weakref.ref(program.jitted(1., n=0))
    assert [float(program(1., n=n)) for n in (0, 1, 0, 2, 2)] == [0, 1, 0, 2, 2]
    assert program.kept.cache_info().misses == 3, "equal arguments should share a program"
    for x in (1., np.ones(2), np.ones(3)): program(x, n=1)
    gc.collect()
    assert program.kept.cache_info().currsize == 2 and first() is None, "programs that were not used for long should be gone"
