"The site as its readers see it: wide and narrow, light and dark."
import posixpath
import re
from html import unescape
from urllib.parse import unquote, urlsplit

import pytest
from places import modules, site

names = sorted(file.relative_to(site).as_posix() for file in site.rglob("*.html") if file.parent.name != "live") # that one is judged by itself

# axe-core's serious findings, a sentence each; `rules` as axe takes them
serious = """async rules => (await axe.run({preload: false, resultTypes: ["violations"], ...rules})).violations.filter(v => /serious|critical/.test(v.impact))
    .flatMap(v => v.nodes.map(n => `${v.help}: ${n.html.slice(0, 200)}`))"""
only = lambda *rules: dict(runOnly=dict(type="rule", values=rules))

# what reaches beyond the right edge and cannot be scrolled to; the hidden text that KaTeX adds for screen readers aside
cut_off = """() => [...document.querySelectorAll("main :not(.katex-mathml *, svg *)")].filter(e => {
    for (let p = e; p; p = p.parentElement) if (/auto|scroll/.test(getComputedStyle(p).overflowX)) return false;
    return e.getBoundingClientRect().right > innerWidth + 1 }).map(e => `Cut off: ${e.outerHTML.slice(0, 200)}`)"""

unset = """() => [...document.querySelectorAll(".math")].filter(e => !e.querySelector(".katex-html")).concat(...document.querySelectorAll(".katex-error"))
    .map(e => `No formula: ${e.textContent}`)"""

weight = "performance.getEntries().reduce((sum, e) => sum + (e.encodedBodySize || 0), 0)"


@pytest.mark.parametrize("name", names)
def test_page(browse, name):
    "A page loads without complaint, is not heavy, shows its formulas, fits a telephone, and can be read by all."
    page = browse(name)
    wrong = page.evaluate(unset)
    page.add_script_tag(path=modules/"axe-core"/"axe.min.js")
    wrong += page.evaluate(serious, {})
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html.quarto-dark")
    page.wait_for_timeout(300)  # colours fade
    wrong += page.evaluate(serious, only("color-contrast"))
    page.set_viewport_size(dict(width=380, height=800))
    wrong += page.evaluate(cut_off)
    wrong += page.evaluate(serious, only("scrollable-region-focusable"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 380, "the page scrolls sideways"
    assert not page.wrong + wrong, "\n".join(page.wrong + wrong)
    assert page.evaluate(weight) < 3e6, "the page and what it loads take more than 3 MB"


def test_links():
    "Every link within the site leads to a page, and to a place on it."
    if not names: pytest.skip("There is no site yet: run `python tools/site.py`.")
    texts = {name: (site/name).read_text(encoding="utf-8") for name in names}
    places = {name: set(re.findall(r'<[^>]* id="([^"]+)"', text)) for name, text in texts.items()}
    broken, checked = set(), 0
    for name, text in texts.items():
        for href in re.findall(r'<a [^>]*href="([^"]*)"', text):
            url = urlsplit(unescape(href))
            if url.scheme or url.netloc: continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), url.path)) if url.path else name
            place = unquote(url.fragment)
            if not (site/target).is_file() or place and place not in places.get(target, {place}): broken.add(f"{name}: {href}")
            checked += 1
    assert not broken, "\n".join(sorted(broken))
    assert checked > 20*len(names)


def test_text_for_programs():
    "llms.txt leads to a text of each page, and llms-ctx.txt holds them all."
    if not names: pytest.skip("There is no site yet: run `python tools/site.py`.")
    links = re.findall(r"\]\(https://[^/]+/[^/]+/([^)]+\.llms\.md)\)", (site/"llms.txt").read_text(encoding="utf-8"))
    whole = (site/"llms-ctx.txt").read_text(encoding="utf-8")
    assert {name.removesuffix(".html") for name in names} == {link.removesuffix(".llms.md") for link in links}
    assert all((site/link).read_text(encoding="utf-8") in whole for link in links)
    assert "def train_step" in whole


def test_search(browse):
    "Search finds `train_digits` and leads to it."
    page = browse("index.html")
    page.get_by_role("searchbox").fill("train_digits")
    page.locator("a", has_text="train_digits").and_(page.locator(".search-result")).first.click()
    page.wait_for_load_state()
    assert "train_digits" in page.locator("main").inner_text()
    assert not page.wrong


@pytest.mark.parametrize("name", ["index.html", "viz.html"])
def test_player(browse, name):
    "The slider, the menus and the button of the walk each change the picture."
    page = browse(name)
    box = page.locator("[id^=scrub-]")
    def after(act):
        act()
        return box.get_by_role("img").evaluate("e => e.style.backgroundPosition + e.style.backgroundImage")
    slider, (digit, sampler) = box.get_by_role("slider"), box.get_by_role("combobox").all()
    seen = [after(act) for act in (
        lambda: None,
        lambda: slider.fill("12"),
        lambda: slider.press("ArrowRight"),
        lambda: digit.select_option("3"),
        lambda: sampler.select_option("ddpm"))]
    assert len(set(seen)) == 5
    box.get_by_role("button", name="Play").click()
    page.wait_for_function("last => document.querySelector('[id^=scrub-] input').value === last", arg=slider.get_attribute("max"))
    assert not page.wrong


def test_two_players(browse):
    "Two players on a page do not disturb each other."
    page = browse("viz.html")
    page.evaluate("""() => {
        const [style, box, script] = document.querySelector("[id^=scrub-]").parentElement.querySelectorAll("style, [id^=scrub-], script");
        const second = document.createElement("div"), again = document.createElement("script");
        second.id = "second";
        document.querySelector("main").append(second);
        again.textContent = script.textContent.replace(box.id, "second");
        document.body.append(again); }""")
    first, second = page.locator("[id^=scrub-]"), page.locator("#second")
    film = lambda box: box.get_by_role("img").get_attribute("style")
    before = film(first)
    second.get_by_role("slider").fill("3")
    assert film(first) == before and film(second) != before


def test_source_is_folded(browse):
    "Exported source is folded away, and what unfolds below a function's heading is that function's."
    page = browse("sampling.html")
    assert page.locator("details.code-fold[open]").count() == 0
    wrong = page.evaluate(r"""() => [...document.querySelectorAll("details.code-fold")].map(e => [e.querySelector("summary").textContent, e.querySelector("code").textContent])
        .flatMap(([summary, code]) => summary.startsWith("Source of ") ? summary.slice(10).split(", ").filter(n => !code.includes(n.split(".").pop())) : [])""")
    assert not wrong, wrong


def test_code_is_not_broken_into_lines(browse):
    "A hundred characters fit beside each other at 1300 pixels, and code scrolls on a telephone instead of wrapping."
    page = browse("training.html")
    room = """() => { const code = [...document.querySelectorAll("main pre code")].find(e => e.offsetParent), one = document.createElement("span");
        one.textContent = "x".repeat(100); code.prepend(one); const width = one.getBoundingClientRect().width; one.remove();
        const style = getComputedStyle(code.closest("pre")); return code.closest("pre").clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - width }"""
    assert page.evaluate(room) >= 0, "a line of 100 characters does not fit"
    page.set_viewport_size(dict(width=380, height=800))
    assert page.evaluate("""[...document.querySelectorAll("main pre code")].every(e => getComputedStyle(e).whiteSpace === "pre")""")
