"""Say, in one sentence each, what is out of step or should not be published; fail if there is anything."""
import json
import re
import subprocess
import sys

import sync
import yaml
from run_notebooks import widget

root, cfg = sync.root, sync.cfg
progress_bar = re.compile(r"\d%\||\d(it/s|s/it)\b")
address = re.compile(rf"github(?:usercontent)?(?:\.com)?[/:]([\w.-]+)/{cfg.repo}(?![\w-])|([\w-]+)\.github\.io/{cfg.repo}(?![\w-])")


def texts():
    "The text of every file that git tracks or would add, by path."
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True)
    res = {}
    for name in sorted(set(names.stdout.split("\0")) - {""}):
        try: res[name] = (root/name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError): pass  # a picture or weights; a file that was deleted
    return res


def out_of_step():
    "What tools/sync.py changes."
    before = texts()
    sync.main()
    after = texts()
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name): yield f"{name} was out of step: tools/sync.py has changed it, commit the result."


def bad_addresses(name, text):
    "Addresses of this project under another owner."
    for match in address.finditer(text):
        owner = match[1] or match[2]
        if owner != cfg.user: yield f"{name} names {match[0]}, but settings.ini says that the owner is {cfg.user}."


def bad_cells(name, text):
    "What a notebook must not be published with."
    for number, cell in enumerate(json.loads(text)["cells"]):
        where, source = f"{name}, cell {number}", "".join(cell["source"])
        if re.search(r"^#\|\s*eval:\s*false", source, re.M | re.I): yield f"{where} is never run (`#| eval: false`)."
        for output in cell.get("outputs", []):
            if output["output_type"] == "error": yield f"{where} has saved an error: {output['ename']}."
            if widget in output.get("data", {}): yield f"{where} has saved a live widget; show a still picture instead."
            if progress_bar.search("".join(output.get("text", ""))): yield f"{where} has saved a progress bar; run it with tools/run_notebooks.py."


def paths_in(contents):
    "The paths of a sidebar and of its sections."
    for entry in contents:
        if isinstance(entry, str): yield entry
        else: yield from paths_in(entry["contents"])


def missing_pages():
    "Notebooks without a line in the sidebar, and lines without a notebook."
    sidebar = yaml.safe_load((root/"_quarto.yml").read_text(encoding="utf-8"))["website"]["sidebar"]
    listed, pages = set(paths_in(sidebar["contents"])), {path.relative_to(sync.nbs).as_posix() for path in sync.nbglob(as_path=True)}
    for path in sorted(pages - listed): yield f"{path} is not in the sidebar of _quarto.yml."
    for path in sorted(listed - pages): yield f"The sidebar of _quarto.yml names {path}, which is not there."


def main():
    "Check everything."
    problems = list(out_of_step())
    for name, text in texts().items():
        problems += bad_addresses(name, text)
        if name.endswith(".ipynb"): problems += bad_cells(name, text)
    problems += missing_pages()
    print("\n".join(problems) or "Everything is in step.")
    sys.exit(bool(problems))


if __name__ == "__main__": main()
