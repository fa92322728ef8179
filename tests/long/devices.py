"""Trainings on many devices and in several processes, on a single processor.

    python tests/long/devices.py

Eight simulated devices, with whole copies and with the state cut up (FSDP), and two processes of four devices each have to give the losses of one device,
to 1e-5 for 20 steps. Training goes on with another number of devices. Of two processes one is killed: the other one has to end by itself, with one sentence, and
both go on when they are started again. A SIGTERM to one of them ends both, and both go on, to the same bits as an undisturbed training. Seven minutes on two
cores; a minute and a half of that is waiting for a process that is dead.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np

net = dict(net=dict(features=8, channel_mults=(1,), attention_levels=()), batch_size=32, progress=False)


def child(how):
    "Train as told in `how`, and print what came out."
    import jax
    if "GCE_METADATA_IP" in os.environ: del os.environ["TPU_SKIP_MDS_QUERY"] # JAX has set it, for there is no TPU
    import unetdiff
    from unetdiff.engine.devices import start_devices
    unetdiff.keep_compiled()
    start_devices() # joins the other processes; `train` would, but `digits` makes arrays before it
    die = how.pop("die", None)
    def callback(step, metrics, run):
        if die and step == die["step"] and jax.process_index() == 1: os.kill(os.getpid(), getattr(signal, die["by"]))
    run = unetdiff.train(*unetdiff.digits(), callback=callback, **net | how)
    print(json.dumps(dict(losses=run.history["loss"].tolist(), devices=jax.device_count())), flush=True)


def start(devices, processes=1, env={}, **how):
    "Start so many processes with so many devices each, which meet as those that are started by hand."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        meet = dict(JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{s.getsockname()[1]}", JAX_NUM_PROCESSES=str(processes)) if processes > 1 else {}
    env_of = lambda i: os.environ | env | meet | dict(JAX_PROCESS_ID=str(i), JAX_NUM_CPU_DEVICES=str(devices))
    return [subprocess.Popen([sys.executable, "-W", "ignore", __file__, json.dumps(how)], env=env_of(i), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in range(processes)]


class Metadata(BaseHTTPRequestHandler):
    "What Google's metadata server tells one of two hosts of a Cloud TPU."
    def do_GET(self):
        told = {"worker-network-endpoints": "127.0.0.1,127.0.0.1", "agent-worker-number": self.server.number, "tpu-env": ""}
        self.send_response(200), self.end_headers()
        self.wfile.write(told[Path(self.path).name].encode())

    def log_message(self, *args): pass


def losses(processes):
    "What each of them reports; all have to end well."
    ends = [p.communicate() for p in processes]
    for p, (_, err) in zip(processes, ends): assert p.returncode == 0, err[-3000:]
    return [np.array(json.loads(out.splitlines()[-1])["losses"]) for out, _ in ends]


def alike(a, b, what):
    "The same up to rounding."
    far = np.abs(a/b - 1).max()
    assert far < 1e-5, f"{what}: losses differ by {far:.1e}"
    print(f"{what}: the same to {far:.0e}", flush=True)


def same_losses():
    "Any number of devices and processes computes the same."
    short = dict(steps=20, log_every=20)
    for stream in (False, True):
        (one,) = losses(start(1, stream=stream, **short))
        for fsdp in (False, True):
            words = ", FSDP"*fsdp + ", streamed"*stream
            alike(losses(start(8, stream=stream, fsdp=fsdp, **short))[0], one, "8 devices" + words)
            first, second = losses(start(4, 2, stream=stream, fsdp=fsdp, **short))
            assert (first == second).all(), "the processes disagree"
            alike(first, one, "2 processes of 4 devices" + words)


def metadata(number):
    "Such a server's address, for the host of that number."
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    server.number = number
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


def found_by_environment():
    "Processes find each other by what Slurm, or a Cloud TPU, tells each of them."
    short = dict(steps=20, log_every=20)
    slurm = dict(SLURM_JOB_ID="4711", SLURM_STEP_NODELIST="localhost", SLURM_NTASKS="2", SLURM_STEP_NUM_TASKS="2")
    places = {"in Slurm's environment": [slurm | dict(SLURM_PROCID=i, SLURM_LOCALID=i) for i in "01"],
              "beside a Cloud TPU's metadata server": [dict(GCE_METADATA_IP=metadata(i), JAX_FORCE_TPU_INIT="1", JAX_PLATFORMS="cpu") for i in "01"]}
    (one,) = losses(start(1, **short))
    for where, envs in places.items():
        alike(losses([p for env in envs for p in start(1, env=env, **short)])[1], one, f"2 processes {where}")


def comes_back(folder):
    "Checkpoints of one number of devices serve another."
    long = dict(steps=60, log_every=20, checkpoints=dict(every=20))
    (one,) = losses(start(1, **long))
    for fsdp in (False, True):
        out = dict(out=str(Path(folder)/f"moved{fsdp}"), resume=True, fsdp=fsdp, **long)
        (stopped,) = start(8, **out)
        while not any(Path(out["out"], "checkpoints").glob("[0-9]*")): time.sleep(.01)
        stopped.kill(), stopped.communicate()
        alike(losses(start(2, **out))[0], one, "begun with 8 devices, ended with 2" + ", FSDP"*fsdp)


def process_gone(folder):
    "One of two processes dies: the other one says so and ends; told to end by SIGTERM, both do; in both cases both go on."
    long = dict(steps=60, log_every=20, checkpoints=dict(every=20))
    first, _ = losses(start(1, 2, **long))
    for by, codes in (("SIGKILL", None), ("SIGTERM", (143, 143))):
        out, begun = dict(out=str(Path(folder)/by), resume=True, **long), time.time()
        processes = start(1, 2, die=dict(step=40, by=by), **out)
        said = [p.communicate()[1] for p in processes]
        ended = tuple(p.returncode for p in processes)
        if codes: assert ended == codes, f"{by}: ended with {ended}: {said[0][-2000:]}"
        else:
            assert ended[0] != 0 and "one of 2 has gone away" in said[0] and "resume=True" in said[0], said[0][-3000:]
        assert any(Path(out["out"], "checkpoints").glob("[0-9]*")), f"{by}: no checkpoint was left"
        print(f"{by} for one of two processes: both had ended after {time.time() - begun:.0f} s, with {ended}", flush=True)
        again, other = losses(start(1, 2, **out))
        assert (again == other).all() and (again == first).all(), f"{by}: a training that goes on should end as one that was left alone"


def main():
    "All of it."
    same_losses(), found_by_environment()
    with tempfile.TemporaryDirectory() as folder: comes_back(folder), process_gone(folder)
    print("all as it should be")


if __name__ == "__main__": child(json.loads(sys.argv[1])) if sys.argv[1:] else main()
