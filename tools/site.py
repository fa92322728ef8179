"""Build the site into _docs without Quarto: nbdev prepares the notebooks, smalldocs renders them. With --prepare, stop before rendering."""
import shutil
import sys
from typing import Any

import flax.nnx
from nbdev.config import get_config
from nbdev.doclinks import _nbpath2html
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs
from smalldocs.site import build

# nbdev reads a class's signature through Flax's metaclass, whose annotations name Any without importing it
type(flax.nnx.Module).__call__.__globals__.setdefault("Any", Any)


def publish_names(site, pages, address):
    "Give the pages the names that Quarto gives them (00_data.html becomes data.html), and make links to the published site local."
    names = {page.with_suffix(".html").name: _nbpath2html(page).name for page in pages}
    for file in [*site.glob("*.html"), *site.glob("*.json"), *site.glob("*.xml")]:
        text = file.read_text(encoding="utf-8")
        for old, new in names.items(): text = text.replace(old, new)
        if file.suffix == ".html": text = text.replace(f'href="{address}/', 'href="')
        file.write_text(text, encoding="utf-8")
        file.rename(file.with_name(names.get(file.name, file.name)))


def main():
    "Build the site, say what is wrong with it, and fail on a broken link."
    cfg = get_config()
    refresh_quarto_yml()
    source = proc_nbs(force=True)
    if "--prepare" in sys.argv: return
    site = build(source)
    publish_names(site.out, [*source.glob("*.ipynb")], cfg.doc_host + cfg.doc_baseurl)
    shutil.rmtree(cfg.doc_path, ignore_errors=True)
    shutil.move(site.out, cfg.doc_path)
    for warning in site.warnings:
        if "output-file" not in warning: print(warning, file=sys.stderr)
    sys.exit(bool(site.broken))


if __name__ == "__main__": main()
