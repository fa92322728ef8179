"A lesson in JupyterLab: run from top to bottom, and its controls moved."
import os
import socket
import statistics
import subprocess
import sys
import time
from urllib.request import urlopen

import nbformat
import pytest
from places import here

lesson = here.parents[1]/"nbs"/"05_viz.ipynb"


@pytest.fixture
def lab(tmp_path):
    "JupyterLab in a folder that holds a copy of the lesson, with the live controls in a cell at its end."
    pytest.importorskip("jupyterlab")
    nb = nbformat.read(lesson, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs = []
    nb.cells.append(nbformat.v4.new_code_cell("run.explore(n=8)"))
    nbformat.write(nb, tmp_path/lesson.name)
    with socket.socket() as free: free.bind(("127.0.0.1", 0)); port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.token=",
               f"--ServerApp.root_dir={tmp_path}"]
    env = os.environ | {name: str(tmp_path/"jupyter") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    log = tmp_path/"lab.log"
    with log.open("w") as out: server = subprocess.Popen(command, stdout=out, stderr=out, env=env)
    for _ in range(120):
        try: urlopen(f"http://127.0.0.1:{port}/api"); break
        except OSError: time.sleep(.5)
    else: pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")
    yield f"http://127.0.0.1:{port}/lab/tree/{lesson.name}"
    server.terminate()
    server.wait()


def test_lesson(chromium, lab, capsys):
    "The lesson runs without an error, and a slider that moves changes the picture: of the walk, and of the live controls."
    page = chromium.new_page(viewport=dict(width=1300, height=1000))
    page.set_default_timeout(150_000)
    page.goto(lab)
    idle = page.get_by_text("| Idle")
    idle.wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    controls = page.locator(".jp-Cell").last
    picture, guidance = controls.locator("img"), controls.locator(".widget-hslider", has_text="guidance").get_by_role("slider")
    picture.or_(page.locator("[data-mime-type$='jupyter.error']")).first.wait_for()
    idle.wait_for()
    assert page.locator("[data-mime-type$='jupyter.error']").all_inner_texts() == []

    walk = page.locator("[id^=scrub-]")
    film = lambda: walk.get_by_role("img").get_attribute("style")
    before = film()
    walk.get_by_role("slider").fill("12")
    assert film() != before

    assert all(controls.locator("select").evaluate_all("all => all.map(e => e.value)")), "a menu does not show what is chosen"
    before, seconds = picture.screenshot(), []
    for _ in range(9):
        source, start = picture.get_attribute("src"), time.perf_counter()
        guidance.press("ArrowRight")
        page.wait_for_function("([img, source]) => img.src !== source", arg=[picture.element_handle(), source])
        seconds.append(time.perf_counter() - start)
    assert picture.screenshot() != before
    with capsys.disabled(): print(f" median time from a move to the new picture: {1000*statistics.median(seconds[1:]):.0f} ms ", end="")
    page.close()
