"""The rules of the house: imports go one way, lessons stay short, what pip installs is complete."""
import ast
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

root = Path(__file__).parents[1]
modules = sorted(p for p in (root/"unetdiff").rglob("*.py") if not p.name.startswith("_"))


def lesson_number(module):
    "The number of the notebook that a module was written in; engine modules have none."
    source = re.search(r"File to edit: (\S+)\.ipynb", module.read_text())[1]
    number = Path(source).name.split("_")[0]
    return int(number) if number.isdigit() else None


def imported(module):
    "The modules of this package that a module imports, anywhere in it."
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            package = module.parent
            for _ in range(node.level - 1): package = package.parent
            if node.level and node.module: yield package/(node.module.replace(".", "/") + ".py")
            elif node.module and node.module.startswith("unetdiff."): yield root/(node.module.replace(".", "/") + ".py")
        elif isinstance(node, ast.Import):
            yield from (root/(name.name.replace(".", "/") + ".py") for name in node.names if name.name.startswith("unetdiff."))


@pytest.mark.parametrize("module", modules, ids=lambda p: p.stem)
def test_imports_go_one_way(module):
    in_engine = module.parent.name == "engine"
    for other in imported(module):
        if other.parent.name == "engine": continue
        assert not in_engine, f"engine/{module.name} imports {other.name}, a lesson"
        if (mine := lesson_number(module)) is not None:
            assert lesson_number(other) < mine, f"{module.name} imports {other.name}, which comes later"


def lines(module):
    "Lines of code below nbdev's header, blank ones not counted."
    text = module.read_text()
    cells = re.split(r"^# %% ", text, flags=re.M)
    return sum(1 + sum(bool(line.strip()) for line in cell.splitlines()[1:]) for cell in cells[1:] if not cell.startswith("auto"))


def test_training_stays_short(): assert lines(root/"unetdiff"/"training.py") <= 300, "the lesson on training exports at most 300 lines"


def test_training_trains_early():
    "A model has been trained, for hundreds of steps, before the middle of the lesson."
    cells = nbformat.read(root/"nbs"/"03_training.ipynb", 4).cells
    trained = next(i for i, c in enumerate(cells) if c.cell_type == "code" and "for i in range(steps)" in c.source)
    assert trained < len(cells)/2, f"the first training is cell {trained} of {len(cells)}"


def test_data_opens_with_a_picture():
    cells = nbformat.read(root/"nbs"/"00_data.ipynb", 4).cells
    shows = lambda c: any("image/png" in o.get("data", {}) for o in c.get("outputs", []))
    first = next(i for i, c in enumerate(cells) if shows(c))
    defined = [i for i, c in enumerate(cells[:first]) if c.cell_type == "code" and re.search(r"^(def|class) ", c.source, re.M)]
    assert len(defined) <= 2, f"{len(defined)} cells define something before the first picture"


def test_wheel_is_complete(tmp_path):
    "A wheel, unpacked outside the checkout, imports every module and draws the slider."
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path/"installed")
    names = [".".join(p.relative_to(root).with_suffix("").parts) for p in modules]
    code = f"""import sys
sys.path.insert(0, {str(tmp_path/"installed")!r})
from importlib import import_module
for name in {names}: import_module(name)
import unetdiff
assert unetdiff.__file__.startswith({str(tmp_path)!r}), unetdiff.__file__
unetdiff.keep_compiled()
page = unetdiff.load().scrub(labels=[3], samplers=("ddim",), steps=4).data
assert "<input" in page and "data:image" in page"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def assigned(source):
    "Names that a cell gives a meaning at its top level."
    source = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef|ast.ClassDef): yield node.name
        elif not isinstance(node, ast.Expr): yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


@pytest.mark.parametrize("module", modules, ids=lambda p: p.stem)
def test_a_lesson_keeps_the_names_of_its_module(module):
    "A notebook's methods of `Run` look up names in the notebook: a cell that uses one for something else breaks them, there and in tests that follow."
    written = re.search(r"File to edit: (\S+)\.ipynb", module.read_text())
    if written is None: pytest.skip("written by hand")
    nb = nbformat.read((module.parent/f"{written[1]}.ipynb").resolve(), 4)
    cells = [c.source for c in nb.cells if c.cell_type == "code"]
    is_exported = lambda source: re.search(r"^#\| *export", source, re.M)
    package = ".".join(module.relative_to(root).with_suffix("").parts)
    public = {name for name, v in vars(import_module(package)).items() if v is not None} # of a patched method nothing is left there
    taken = {name for source in cells if not is_exported(source) for name in assigned(source)} & public
    assert not taken, f"these names of {module.name} mean something else in cells of its lesson: {sorted(taken)}"
