"""Install the package as its users do, and run what they are told to run.

    python tests/long/install.py [--full] [requirement ...]

Builds the wheel, installs it into a fresh environment outside the checkout, with whatever versions pip chooses, and runs there every command and every block of
Python that README.md and the page of the command show (but not the test command, which needs a checkout). Then the commands once more with each requirement
that is named, by default `fastcore<2`, the library that reads their arguments. Trainings take a few steps; with --full as many as the pages say, some
four minutes on two cores instead of one and a half.
"""
import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

root = Path(__file__).parents[2]
readme = (root/"README.md").read_text(encoding="utf-8")
few = """
from dataclasses import replace
import unetdiff
unetdiff.keep_compiled() # what the command has compiled
unetdiff.presets["default"] = replace(unetdiff.presets["default"], steps=2)
"""


def page(name):
    "The text of a notebook."
    cells = json.loads((root/"nbs"/name).read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def blocks(text, language):
    "What stands in the fences of one language."
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(text):
    "The arguments of each call of the command, in order."
    found = [re.search(r"(?:^|&& )(?:\.venv/bin/)?unetdiff( .*|)$", line.split(" #")[0].rstrip()) for block in blocks(text, "bash") for line in block.splitlines()]
    return [match[1].split() for match in found if match]


def with_few_steps(args):
    "The same call, a training with two steps: the last of several numbers counts, and no minutes."
    if args[:1] in (["sample"], ["score"]): return args
    if "--minutes" in args: args = args[:args.index("--minutes")] + args[args.index("--minutes") + 2:]
    return [*args, "--steps", "2"]


def draw_photos(bin, folder):
    "The folder of pictures that a page speaks of: twenty of each of two classes."
    code = """from pathlib import Path
import numpy as np
from PIL import Image
for name in ("cat", "dog"):
    Path("photos", name).mkdir(parents=True)
    for i in range(20): Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 36, 3), np.uint8)).save(f"photos/{name}/{i}.png")
"""
    run(folder, bin/"python", "-c", code)


def run(folder, *command):
    "Run it in a folder, and say so; it has to succeed."
    print("  ", " ".join(map(str, command))[:110].replace("\n", " "), flush=True)
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True)
    if done.returncode: sys.exit(f"{done.stdout[-2000:]}{done.stderr[-4000:]}\nended with {done.returncode}: {' '.join(map(str, command))[:200]}")
    return done.stdout


def try_commands(bin, full):
    "Every command, in a new folder; also as a module."
    version = run(bin, bin/"unetdiff", "--version")
    assert version == run(bin, bin/"python", "-m", "unetdiff", "--version"), "the module says another version than the command"
    for text in (readme, page("07_cli.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            draw_photos(bin, folder)
            for args in commands(text): run(folder, bin/"unetdiff", *(args if full else with_few_steps(args)))


def try_python(bin, full):
    "Every block of Python, each in a process of its own, all in one new folder."
    with tempfile.TemporaryDirectory() as folder:
        for code in blocks(readme, "python"): run(folder, bin/"python", "-W", "ignore", "-c", code if full else few + code)


def main(full, requirements):
    "Install, try, and try again with other versions."
    with tempfile.TemporaryDirectory() as folder:
        run(root, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, root)
        venv.create(Path(folder)/"fresh", with_pip=True)
        bin = Path(folder)/"fresh"/("Scripts" if sys.platform == "win32" else "bin")
        for requirement in (next(Path(folder).glob("*.whl")), *requirements):
            run(folder, bin/"python", "-m", "pip", "install", "-q", "--no-compile", requirement)
            print(run(folder, bin/"python", "-c", "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in ('jax', 'flax', 'optax', 'fastcore', 'numpy')))"), flush=True)
            try_commands(bin, full)
            if requirement not in requirements: try_python(bin, full)
    print("all of it works as the pages say")


if __name__ == "__main__":
    words = sys.argv[1:]
    main("--full" in words, [w for w in words if w != "--full"] or ["fastcore<2"])
