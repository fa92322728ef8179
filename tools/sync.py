"""Bring everything that is generated in step: Colab badges, where Colab installs from, clean notebooks, modules, README.md."""
import base64
import posixpath
import re

import nbformat
from execnb.nbio import nb2str, read_nb, write_nb
from nbconvert import MarkdownExporter
from nbdev.clean import nbdev_clean
from nbdev.config import get_config
from nbdev.doclinks import nbdev_export, nbglob
from nbdev.processors import FilterDefaults

cfg = get_config()
root, nbs = cfg.config_path, cfg.nbs_path
install = re.compile(r'(?<="install -q )git\+[^"]+')
badge_line = re.compile(r"^\[!\[Open in Colab\].*$", re.M)
link = re.compile(r'(\]\(|src="|href=")(?!\w+:|[#/])([^)"\s]+)')  # a link to a path, in Markdown or HTML


def badge(name):
    "The Colab badge of the notebook called `name`."
    page = f"https://colab.research.google.com/github/{cfg.user}/{cfg.repo}/blob/{cfg.branch}/{nbs.name}/{name}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({page})"


def write_addresses():
    "Point the Colab badge of every notebook, and the cell that installs the package there, at the repository that settings.ini names."
    for path in nbglob(as_path=True):
        nb = read_nb(path)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = badge_line.sub(badge(path.relative_to(nbs).as_posix()), cell.source)
            else: cell.source = install.sub(f"git+{cfg.git_url}", cell.source)
        write_nb(nb, path)


def still(output, alt, number):
    "A picture that a cell shows, as a file beside the site's other pictures, and as Markdown."
    path = nbs/"images"/f"readme_{number}.png"
    path.write_bytes(base64.b64decode("".join(output["data"]["image/png"])))
    return nbformat.v4.new_output("display_data", {"text/markdown": f"![{alt}]({path.relative_to(root).as_posix()})"})


def with_stills(cells):
    "Let each cell that shows a picture show a file instead; a player, which needs a page that runs scripts, shows its own still picture."
    number = 0
    for cell in cells:
        for i, output in enumerate(cell.get("outputs", [])):
            if "image/png" not in output.get("data", {}): continue
            number += 1
            alt = re.search(r'^#\|\s*fig-alt:\s*"(.*)"', cell.source, re.M)
            cell.outputs[i] = still(output, alt[1] if alt else "", number)


def from_root(match):
    "Rewrite one link so that it starts at the root of the repository instead of at the notebooks' folder."
    return match[1] + posixpath.normpath(f"{nbs.name}/{match[2]}")


def shown(cell):
    "Apply a cell's `#|` options, and say whether anything of it is left to show."
    option = {name.rstrip(":"): args for name, args in cell.directives_.items()}
    off = lambda name: option.get(name) == ["false"]
    if cell.cell_type == "markdown": cell.source = link.sub(from_root, cell.source)
    if cell.cell_type == "code":
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
        if off("output"): cell.outputs = []
        if off("echo"): cell.metadata["transient"] = {"remove_source": True}
    return cell.cell_type != "raw" and not off("include")


def write_readme():
    "Write README.md, and the pictures in it, from the home page of the site."
    nb = read_nb(nbs/cfg.readme_nb)
    FilterDefaults()(nb)
    with_stills(nb.cells)
    nb.cells = [cell for cell in nb.cells if shown(cell)]
    nb.metadata["language_info"] = {"name": "python"}
    front = nb.frontmatter_
    title = "\n\n".join([f"# {front['title']}"] + ([f"> {front['description']}"] if "description" in front else []))
    body, _ = MarkdownExporter().from_notebook_node(nbformat.reads(nb2str(nb), as_version=4))
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", f"{title}\n\n{body}", flags=re.M)).strip() + "\n"
    (root/"README.md").write_text(text, encoding="utf-8", newline="\n")


def main():
    "Do it all; a second run changes nothing."
    write_addresses()
    nbdev_clean.__wrapped__()
    nbdev_export.__wrapped__()
    write_readme()


if __name__ == "__main__": main()
