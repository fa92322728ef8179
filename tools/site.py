"""Build the site into _docs without Quarto: nbdev's steps prepare the notebooks, smalldocs renders them. With --prepare, stop before rendering; with
--finish FOLDER, add to a site that Quarto has rendered what Quarto does not know: the page on which the model draws, KaTeX's files, one text of all pages."""
import ast
import inspect
import posixpath
import re
import shutil
import sys
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import flax.nnx
import nbdev.processors as steps
import nbdev.serve
from execnb.nbio import mk_cell
from fastcore.docments import MarkdownRenderer
from nbdev.config import get_config
from nbdev.doclinks import _nbpath2html, patch_name
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import Processor
from nbdev.quarto import refresh_quarto_yml
from smalldocs.site import build

from unetdiff import digits_student, load

# nbdev reads a class's signature through Flax's metaclass, whose annotations name Any without importing it
type(flax.nnx.Module).__call__.__globals__.setdefault("Any", Any)

definitions = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef


def name_of(tree):
    "What a definition is called on its page: `Run.sample` where it is patched into a class."
    return patch_name(tree) or tree.name


def is_public(tree):
    "Whether a statement defines something that callers use."
    return isinstance(tree, definitions) and not tree.name.startswith("_")


def parts(source):
    "Cut the code of a cell after each public definition, so that each part holds one: (part, its definition or None)."
    lines, trees = source.splitlines(), ast.parse(source).body
    public = [tree for tree in trees if is_public(tree)]
    if not public: return [(source, None)]
    ends = [tree.end_lineno for tree in public[:-1]] + [len(lines)]
    starts = [0, *ends[:-1]]
    return [("\n".join(lines[a:b]).strip("\n"), tree) for a, b, tree in zip(starts, ends, public)]


def names_in(source):
    "All names that a piece of code defines at its top."
    for tree in ast.parse(source).body:
        if isinstance(tree, definitions): yield name_of(tree)
        if isinstance(tree, ast.Assign): yield from (node.id for target in tree.targets for node in ast.walk(target) if isinstance(node, ast.Name))


def anchors(source):
    "A place to link to for each function, class and method without a heading of its own."
    for tree in ast.parse(source).body:
        if not isinstance(tree, definitions): continue
        yield name_of(tree)
        if isinstance(tree, ast.ClassDef): yield from (f"{tree.name}.{inner.name}" for inner in tree.body if isinstance(inner, definitions))


def folded(source, names):
    "A cell whose code is folded away below a line that says what it holds."
    summary = f"Source of {', '.join(names)}" if names else "Imports" if "import " in source else "Source"
    return mk_cell(f"#| code-fold: true\n#| code-summary: {summary!r}\n{source}")


def plain(annotation):
    "A type as a reader would write it: without its module, and without the rule that goes with it."
    if annotation is inspect.Parameter.empty or isinstance(annotation, str): return annotation
    if isinstance(annotation, type) and get_origin(annotation) is None: return annotation.__name__
    if get_origin(annotation) is Annotated: return plain(get_args(annotation)[0])
    text = str(annotation) if get_origin(annotation) is not Union else " | ".join(map(str, map(plain, get_args(annotation))))
    return re.sub(r"<class '(\w+)'>", r"\1", re.sub(r"\b(?:\w+\.)+(?=\w)", "", text))


def documented(module, name):
    "A function or class of a module as its page describes it: without jit, and with plain types."
    thing = reduce(getattr, name.split("."), module)
    if not isinstance(thing, type): thing = inspect.unwrap(thing, stop=lambda f: inspect.isfunction(f) and hasattr(f, "__signature__"))
    told = thing.__init__ if isinstance(thing, type) else thing
    if not inspect.isfunction(told): return thing
    sig = inspect.signature(told)
    told.__signature__ = sig.replace(parameters=[p.replace(annotation=plain(p.annotation)) for p in sig.parameters.values()],
                                     return_annotation=plain(sig.return_annotation))
    fields = getattr(told, "__delwrap__", None)  # fastcore reads comments from the source, which a dataclass's own __init__ lacks
    if getattr(fields, "__name__", "") == "__init__": told.__delwrap__ = inspect.unwrap(fields).__globals__[fields.__qualname__.split(".")[0]]
    return thing


def described(module, name):
    "The signature of a function or class, its arguments and its docstring, as markdown."
    thing = documented(module, name)
    if hasattr(thing, "_fields"): return f"`{name}({', '.join(thing._fields)})`\n\n*{thing.__doc__}*" # nbdev cannot read how a named tuple is made
    page = MarkdownRenderer(thing, name=name, maxline=96)._repr_markdown_()
    return page.replace(":NoneType=None", "=None")


class show_exports(Processor):
    """What is exported, on its page. A cell marked `exports` gives each public function a heading with its signature, and its own source,
    folded, below. A cell marked `export` is folded source, without a heading: helpers and imports."""
    def begin(self):
        modules = [cell.directives_["default_exp"][0] for cell in self.nb.cells if "default_exp" in cell.directives_]
        self.module = import_module(f"{get_config().lib_name}.{modules[0]}") if modules else None
        self.nb.cells = [new for cell in self.nb.cells for new in self.shown(cell)]

    def shown(self, cell):
        "The cells that take the place of one."
        if cell.cell_type != "code" or not {"export", "exports"} & cell.directives_.keys(): return [cell]
        pieces = parts(cell.source) if "exports" in cell.directives_ else [(cell.source, None)]
        return [new for source, tree in pieces for new in self.piece(source, tree)]

    def piece(self, source, tree):
        "The heading of a public definition, places to link to, and the source."
        headings, title = [], name_of(tree) if tree else None
        if title:
            headings.append(mk_cell(f"### {title}\n\n{described(self.module, title)}", "markdown"))
        places = "".join(f'<div id="{name.lower()}"></div>' for name in anchors(source) if name != title)
        if places: headings.append(mk_cell(places, "markdown"))
        new = [*headings, folded(source, [title] if title else list(names_in(source)))]
        for cell in new: cell.directives_ = {}
        return new


def drop_tests(cell):
    "Leave out what is for the tests alone."
    if cell.directives_ and cell.directives_.keys() & {"hide", "default_exp"}: del cell["source"]


class Pages(steps.FilterDefaults):
    "nbdev's steps from a notebook to a page, without running anything, and with `show_exports` in the place of its own headings."
    def base_procs(self):
        return [FrontmatterProc, steps.populate_language, steps.insert_warning, steps.strip_ansi, steps.hide_line, steps.filter_stream_,
                steps.rm_header_dash, show_exports, drop_tests, steps.clean_magics, steps.hide_, steps.add_links, steps.strip_hidden_metadata]


def publish_names(site, source, address):
    "Give the pages the names that Quarto gives them (00_data.html becomes data.html), and make links to the published site local."
    pages = [(page, _nbpath2html(page)) for page in source.rglob("*.ipynb")]
    names = {page.with_suffix(kind).name: new.with_suffix(kind).name for page, new in pages for kind in (".html", ".llms.md")}
    for file in [file for kind in ("html", "json", "xml", "txt", "md") for file in site.rglob(f"*.{kind}")]:
        text = file.read_text(encoding="utf-8")
        for old, new in names.items(): text = re.sub(rf"(?<![\w-]){re.escape(old)}", new, text)
        up = posixpath.relpath(".", file.parent.relative_to(site).as_posix())
        if file.suffix == ".html": text = text.replace(f'href="{address}/', f'href="{up}/' if up != "." else 'href="')
        file.write_text(text, encoding="utf-8")
        file.rename(file.with_name(names.get(file.name, file.name)))


def live_page(site):
    "The page on which the bundled model draws."
    shutil.rmtree(site/"live", ignore_errors=True)
    load().live(site/"live", student=digits_student(), text="""The model of <a href="../index.html">unetdiff</a> draws digits in this page. It begins with noise, looks at it some times, and takes away
        what it holds for noise. <a href="../sampling.html">Sampling</a> explains the walk, <a href="../export.html">Out of JAX</a> how the model came here.""")


def formulas_at_home(site):
    "KaTeX's files beside the pages, if npm has brought them, so that formulas need no network."
    source = get_config().config_path/"tests"/"browser"/"node_modules"/"katex"/"dist"
    if not source.exists(): return print("KaTeX stays where it is: run `npm install --prefix tests/browser` first to have it beside the pages", file=sys.stderr)
    shutil.copytree(source, site/"katex", ignore=lambda folder, names: [name for name in names if not re.search(r"^[a-z]+$|min\.(js|css)$|woff2$", name)], dirs_exist_ok=True)
    for file in site.rglob("*.html"):
        up = posixpath.relpath(".", file.parent.relative_to(site).as_posix())
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"https://cdn\.jsdelivr\.net/npm/katex@[^/\"]+/dist/", f"{up}/katex/", text), encoding="utf-8")


def one_text(site, address):
    "All pages in one text, for a program that reads: llms-ctx.txt, in the order of llms.txt."
    index = (site/"llms.txt").read_text(encoding="utf-8")
    title, summary = re.search(r"# (.+)\n\n> (.+)", index).groups()
    docs = [f'<doc title="{name}">\n{(site/posixpath.relpath(link, address)).read_text(encoding="utf-8")}\n</doc>' for name, link in re.findall(r"\[([^\]]+)\]\(([^)]+\.llms\.md)\)", index)]
    text = "\n".join([f'<project title="{title}" summary="{summary}">', "<docs>", *docs, "</docs>", "</project>", ""])
    (site/"llms-ctx.txt").write_text(text, encoding="utf-8")


def finish(site, address):
    "What neither smalldocs nor Quarto does."
    live_page(site)
    formulas_at_home(site)
    one_text(site, address)


def main():
    "Build the site, say what is wrong with it, and fail on a broken link."
    cfg = get_config()
    address = cfg.doc_host + cfg.doc_baseurl
    if sys.argv[1:2] == ["--finish"]: return finish(Path(sys.argv[2]), address)
    refresh_quarto_yml()
    nbdev.serve.FilterDefaults = Pages
    source = nbdev.serve.proc_nbs(force=True)
    if "--prepare" in sys.argv: return
    site = build(source)
    publish_names(site.out, source, address)
    shutil.rmtree(cfg.doc_path, ignore_errors=True)
    shutil.move(site.out, cfg.doc_path)
    finish(cfg.doc_path, address)
    for warning in site.warnings:
        if not re.search("output-file|grid|html-math-method", warning): print(warning, file=sys.stderr)
    sys.exit(bool(site.broken))


if __name__ == "__main__": main()
