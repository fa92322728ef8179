"The page on which the model draws: by mouse, keyboard and finger, wide and narrow, and the same pictures as in Python."
import jax
import numpy as np
import pytest
from places import modules
from test_site import cut_off, only, serious, weight

from unetdiff import digits_student, load
from unetdiff.export import fresh_noise

done = lambda steps: f"document.querySelector('#said').textContent.includes('pictures, {steps} step')"
shown = "id => document.getElementById(id).toDataURL()"
drawn = "id => { const c = document.getElementById(id); return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data] }"


@pytest.fixture
def page(browse):
    "The page, its model loaded and its first pictures drawn."
    page = browse("live/index.html")
    page.click("#load")
    page.wait_for_function(done(10))
    return page


def test_nothing_is_loaded_before_the_button(browse):
    page = browse("live/index.html")
    assert page.evaluate(weight) < 50_000 and "MB" in page.inner_text("#said") and not page.locator("#tools").is_visible()
    assert not page.wrong


def test_draws(page):
    "Each choice changes the pictures; the slider goes back on the walk; the same choice gives the same again."
    seen = {}
    def after(name, act, steps):
        act()
        page.click("#draw")
        page.wait_for_function(done(steps))
        seen[name] = page.evaluate(shown, "noisy")
    after("first", lambda: None, 10)
    for name, act, steps in (("label", lambda: page.select_option("#label", "3"), 10), ("any label", lambda: page.select_option("#label", ""), 10),
                             ("steps", lambda: (page.select_option("#label", "3"), page.select_option("#steps", "20")), 20), ("guidance", lambda: page.fill("#guidance", "4"), 20),
                             ("sampler", lambda: page.select_option("#sampler", "DDPM"), 20), ("seed", lambda: page.fill("#seed", "7"), 20)): after(name, act, steps)
    assert len({str(v) for v in seen.values()}) == len(seen), "a choice changes nothing"
    page.fill("#step", "5")
    assert page.evaluate(shown, "noisy") != seen["seed"] != page.evaluate(shown, "guess")
    after("again", lambda: None, 20)
    assert seen["again"] == seen["seed"]
    page.click("#another")
    page.wait_for_function("() => document.querySelector('#seed').value === '8'")
    assert not page.wrong


def test_one_step(page):
    "The student draws in one step what the model draws in many, without guidance, and the same pictures as in Python."
    run, z = digits_student(), np.random.default_rng(0).standard_normal((3, 8, 8, 1), np.float32)
    page.select_option("#sampler", "student")
    assert page.input_value("#steps") == "1" and not page.locator("#guidance").is_visible()
    page.click("#draw")
    page.wait_for_function(done(1))
    x = page.evaluate("""async z => {
        const model = await unetdiff.load(document.body.dataset.runtime);
        return [...await unetdiff.sample(model, model.about.walks.student[1], Float32Array.from(z), {label: 4})]; }""", z.ravel().tolist())
    with jax.default_matmul_precision("float32"): theirs = run.sample(3, 4, z=z)
    assert np.abs((np.clip(np.float32(x), -1, 1).reshape(z.shape) + 1)/2 - theirs).max() < 1e-3
    page.select_option("#sampler", "DDIM")
    assert page.locator("#guidance").is_visible()
    assert not page.wrong


@pytest.mark.parametrize("act", ["mouse", "keys"])
def test_finishes_what_was_begun(page, act):
    "Ink in the known half stays; the rest is drawn in sixteen ways; the other half takes no ink."
    def at(row, column):
        box = page.locator("#draft").bounding_box()
        return box["x"] + (column + .5)*box["width"]/8, box["y"] + (row + .5)*box["height"]/8
    page.locator("#draft").scroll_into_view_if_needed()
    if act == "mouse":
        page.mouse.move(*at(1, 2))
        page.mouse.down()
        for row in range(1, 7): page.mouse.move(*at(row, 2))
        page.mouse.move(*at(6, 6))
        page.mouse.up()
    else:
        page.focus("#draft")
        for key in ("ArrowDown", "ArrowRight", "ArrowRight", *["Space", "ArrowDown"]*6): page.keyboard.press(key)
        assert "column 3" in page.inner_text("#said")
    page.select_option("#label", "")
    page.click("#finish")
    page.wait_for_function(done(10))
    x = np.array(page.evaluate(drawn, "noisy")).reshape(35, 35, 4)[..., 0]
    pictures = [x[9*i:9*i + 8, 9*j:9*j + 8] for i in range(4) for j in range(4)]
    assert all((p[1:7, 2] == 255).all() and (p[:, 0] == 0).all() for p in pictures), "what was drawn should stay"
    assert len({p.tobytes() for p in pictures}) == 16 and any(p[:, 4:].max() > 100 for p in pictures), "the other half should be drawn, each time in another way"
    page.click("#clear")
    assert not page.wrong


@pytest.mark.parametrize("sampler, rule", [("DPM-Solver++", "dpmpp_2m"), ("SDE-DPM-Solver++", "dpmpp_2m_sde"), ("DDIM", "ddim"), ("DDPM", "ddpm")])
@pytest.mark.parametrize("guidance", [1., 3.])
def test_the_same_pictures_as_in_python(page, sampler, rule, guidance):
    "The same noise in, the same pictures out."
    run, n, steps = load(), 3, 10
    z, fresh = np.random.default_rng(0).standard_normal((n, 8, 8, 1), np.float32), fresh_noise(run, n, steps, seed=2)
    x = page.evaluate("""async ([sampler, steps, guidance, z, fresh]) => {
        const model = await unetdiff.load(document.body.dataset.runtime), numbers = v => Float32Array.from(v);
        return [...await unetdiff.sample(model, model.about.walks[sampler][steps], numbers(z), {label: 4, guidance, fresh: fresh.map(numbers)})]; }""",
        [sampler, steps, guidance, z.ravel().tolist(), fresh.reshape(steps, -1).tolist()])
    ours = (np.clip(np.float32(x), -1, 1).reshape(z.shape) + 1)/2
    with jax.default_matmul_precision("float32"): theirs = run.sample(n, 4, z=z, seed=2, sampler=rule, steps=steps, guidance=guidance)
    assert np.abs(ours - theirs).max() < 1e-3


def test_can_be_read_and_used_by_all(page):
    "Light and dark, wide and narrow; stopping motion is respected."
    page.add_script_tag(path=modules/"axe-core"/"axe.min.js")
    wrong = page.evaluate(serious, {})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    wrong += page.evaluate(serious, only("color-contrast"))
    page.set_viewport_size(dict(width=380, height=800))
    wrong += page.evaluate(cut_off)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380, "the page scrolls sideways"
    assert not wrong + page.wrong, "\n".join(wrong + page.wrong)
    before = page.evaluate(shown, "noisy")
    page.evaluate("window.painted = 0; new MutationObserver(() => painted++).observe(document.getElementById('noisy'), {attributes: true})")
    page.select_option("#label", "8")
    page.click("#draw")
    page.wait_for_function(done(10))
    assert page.evaluate(shown, "noisy") != before and page.evaluate("painted") <= 4, "pictures should appear once, not move"


@pytest.mark.parametrize("without, said", [("WebAssembly", "no WebAssembly"), ("network", "could not be loaded")])
def test_says_what_is_missing(browse, without, said):
    page = browse("live/index.html")
    if without == "WebAssembly": page.evaluate("delete window.WebAssembly")
    else: page.route("**/*.min.js", lambda route: route.abort())
    page.click("#load")
    page.wait_for_function("text => document.querySelector('#said').textContent.includes(text)", arg=said)
    assert page.is_enabled("#load")
