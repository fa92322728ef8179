"""Run notebooks top to bottom, each in a fresh kernel, and save what they show: python tools/run_notebooks.py [nbs/00_data.ipynb ...]"""
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from nbdev.doclinks import nbglob

os.environ["TQDM_DISABLE"] = "1"  # a saved progress bar is noise
widget = "application/vnd.jupyter.widget-view+json"  # and a saved widget is dead


def run(path):
    "Run one notebook in its own folder and save it, clean; a failing one is left as it was."
    nb = nbformat.read(path, as_version=4)
    NotebookClient(nb, timeout=None, kernel_name="python3", store_widget_state=False, extra_arguments=["--log-level=ERROR"],
                   resources={"metadata": {"path": path.parent}}).execute()
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if widget not in o.get("data", {})]
    nbformat.write(nb, path)
    nbdev_clean.__wrapped__(str(path))


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(nbglob())):
        start = time.time()
        run(path)
        print(f"{path}: {time.time() - start:.0f} s", flush=True)
