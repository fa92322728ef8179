"""Run the notebooks as a reader in Colab does: each from its first cell on, which installs the package from the repository's address.

    python3.13 -m venv .colab && .colab/bin/pip install -r tests/long/colab.txt
    .colab/bin/python tests/long/colab.py [notebook ...]

The address leads to a clone of this checkout, so its last commit is what gets installed, with the requirements that it states and beside the versions that are
there. colab.txt holds the oldest that are allowed, Colab's own; with nothing but `ipykernel nbclient nbformat` in the environment pip chooses the newest. Before,
the package is removed. Prints the versions and the seconds of each notebook; some 15 minutes on two cores.
"""
import os
import subprocess
import sys
import tempfile
import time
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

root = Path(__file__).parents[2]


def clone(folder):
    "The last commit, which git also finds under the repository's address."
    settings = ConfigParser()
    settings.read(root/"settings.ini")
    subprocess.run(["git", "clone", root, folder], check=True, capture_output=True)
    os.environ |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{folder}.insteadOf", "GIT_CONFIG_VALUE_0": settings["DEFAULT"]["git_url"]}


def attempt(path):
    "Run a notebook; what went wrong, or nothing. Cells marked as slow are left out, as by the test command."
    nb = nbformat.read(path, as_version=4)
    nb.cells = [cell for cell in nb.cells if "#| slow" not in cell.source]
    try: NotebookClient(nb, timeout=None, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    except CellExecutionError as error: return str(error)


def installed(name):
    "The version of a package."
    try: return version(name)
    except PackageNotFoundError: return "missing"


def main(names):
    "Each notebook in turn."
    subprocess.run([sys.executable, "-m", "pip", "uninstall", "-q", "-y", "unetdiff"], check=True)
    os.environ |= {"IN_TEST": "1", "TQDM_DISABLE": "1"}
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        clone(folder)
        notebooks = Path(folder)/"nbs"
        found = sorted(path.relative_to(notebooks).with_suffix("").as_posix() for path in notebooks.rglob("*.ipynb"))
        unknown = {*names} - {*found}
        if unknown: sys.exit(f"{', '.join(sorted(unknown))}: not among {', '.join(found)}")
        for name in names or found:
            start = time.time()
            wrong = attempt(notebooks/f"{name}.ipynb")
            print(f"{name}: {time.time() - start:.0f} s", *([wrong] if wrong else []), sep="\n", flush=True)
            if wrong: failed.append(name)
    print("Python", sys.version.split()[0], *(f"{name} {installed(name)}" for name in ("jax", "flax", "optax", "fastcore", "numpy", "orbax-checkpoint")))
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    sys.exit(bool(failed))


if __name__ == "__main__": main(sys.argv[1:])
