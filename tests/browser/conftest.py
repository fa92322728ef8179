"The browser, the site at an address of its own, and what its pages load from elsewhere."
import re
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from places import modules, site

browsers = ["chromium", "chromium-browser", "google-chrome"]
badge = '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"><rect width="117" height="20" rx="3" fill="#555"/></svg>'


class Quiet(SimpleHTTPRequestHandler):
    "A server that does not report each request."
    def log_message(self, *args): pass


@pytest.fixture(scope="session")
def chromium():
    "The installed browser, without a window."
    path = next(filter(None, map(shutil.which, browsers)), None)
    if path is None: pytest.skip(f"No browser is installed: the tests take {', '.join(browsers[:-1])} or {browsers[-1]}.")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    with sync_playwright() as play: yield play.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def address():
    "Where the site is served, on a free port."
    if not site.exists(): pytest.skip("There is no site yet: run `python tools/site.py`.")
    if not modules.exists(): pytest.skip("axe-core is missing: run `npm install --prefix tests/browser`.")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def answer(route):
    "Stand in for other hosts: onnxruntime-web as npm has it, an empty badge, no font. Anything else fails."
    url = route.request.url.split("?")[0]
    onnx = modules/"onnxruntime-web"/re.sub(r".*/npm/onnxruntime-web@[^/]*/", "", url)
    if onnx.is_file(): route.fulfill(path=onnx, headers={"Access-Control-Allow-Origin": "*"} | ({"Content-Type": "text/javascript"} if "js" in onnx.suffix else {}))
    elif url.endswith("/colab-badge.svg"): route.fulfill(body=badge, content_type="image/svg+xml")
    elif url == "https://fonts.googleapis.com/css2": route.fulfill(body="", content_type="text/css")
    else: route.abort()


@pytest.fixture
def browse(chromium, address):
    "Opens a page of the site; what the browser complains of is collected in `page.wrong`."
    contexts = []
    def browse(name):
        contexts.append(chromium.new_context(viewport=dict(width=1300, height=900), color_scheme="light"))
        page = contexts[-1].new_page()
        page.wrong = []
        page.on("console", lambda m: m.type in ("error", "warning") and page.wrong.append(m.text))
        page.on("pageerror", lambda e: page.wrong.append(str(e)))
        page.on("requestfailed", lambda r: page.wrong.append(f"{r.url} was not loaded"))
        page.on("response", lambda r: r.status >= 400 and page.wrong.append(f"{r.url} gave {r.status}"))
        page.route(lambda url: not url.startswith((address, "data:", "blob:")), answer)
        page.goto(address + name, wait_until="networkidle")
        return page
    yield browse
    for context in contexts: context.close()
