"""Pages as a reader sees them, in a headless Chromium: phone and desk, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, chromium
from helpers import COLOURS, FakeEncoder, FakeTokenEncoder, draw_folder, drawing

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.demo import run_demo
from fewclip.encoders import ENCODERS
from fewclip.methods import TipAdapterF
from fewclip.reports import report_evaluation

# Text below 4.5 to 1, with its ratio. Backgrounds are laid over one another up to the opaque one.
CONTRAST = """(() => {
  const parse = c => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * below[i]).concat(1);
  const light = c => { const [r, g, b] = c.map(v => v / 255).map(
    v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const found = [];
  for (const element of document.querySelectorAll('body *:not(svg *):not(svg)')) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
    if (!text.length || !element.checkVisibility()) continue;
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    const ground = layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
    const ink = over(parse(getComputedStyle(element).color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) found.push([ratio, element.className, text[0].data.trim().slice(0, 40)]);
  }
  return found;
})()"""
PICTURES_WITHOUT_WORDS = """[...document.querySelectorAll('img, svg')].filter(e => !(
  e.tagName === 'IMG' ? e.alt : e.getAttribute('aria-label') || e.getAttribute('aria-hidden')
)).length"""
BROKEN_PICTURES = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
WINDOWS = [(1200, False), (1200, True), (390, False), (390, True)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind, with all of its sections."""
    root, colours = tmp_path_factory.mktemp("pages"), list(COLOURS)[:4]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWCLIP_CACHE", str(root / "cache"))
        patch.setitem(ENCODERS, "fake", "helpers:FakeEncoder")
        photos = draw_folder(root / "photos", colours, n=4)
        new = draw_folder(root / "new", colours, n=3, first=50)
        for number, (wrong, label) in enumerate((("blue", "red"), ("red", "green"), ("blue", "yellow"))):
            drawing(wrong, 60).save(new / label / f"a rather long name of a photo, {number}.png")
        fitted = FewShotClassifier(
            FakeEncoder(), TipAdapterF(epochs=5), store=FeatureStore.in_memory(), progress=False
        )
        fitted.fit(photos)
        report = report_evaluation(
            fitted, fitted.evaluate(new), root / "report", source=new, adapter=root / "x.adapter"
        )
        run_demo(
            photos, root / "demo", encoder="fake", methods=("zero-shot", "ape"), shots=(1, 2),
            progress=False,
        )  # fmt: skip
        seer = FewShotClassifier(FakeTokenEncoder(), "ape", store=FeatureStore.in_memory(), progress=False)
        seen = seer.fit(photos).explain(new / "red" / "50.png", heat_map=True)
        explanation = seen.to_html(root / "why.html")
    return {
        "report": report,
        "demo": root / "demo" / "report" / "index.html",
        "explanation": explanation,
    }


@pytest.mark.parametrize(("width", "dark"), WINDOWS)
@pytest.mark.parametrize("page", ["report", "demo", "explanation"])
def test_it_can_be_read(browser: Browser, pages: dict[str, Path], page: str, width: int, dark: bool) -> None:
    visit = browser.open(pages[page], width=width, dark=dark)
    assert visit.complaints == []
    assert visit.requests == []
    assert visit.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.evaluate(PICTURES_WITHOUT_WORDS) == 0
    assert visit.evaluate(BROKEN_PICTURES) == 0
    assert visit.evaluate(CONTRAST) == []
    pixels = np.asarray(visit.screenshot(whole=False))
    assert (pixels.mean() < 90) == dark  # the scheme is the reader's
    assert len(np.unique(pixels[::2, ::2].astype(np.int64) @ [65536, 256, 1])) > 100
    assert pixels.std() > 10


def test_links_on_the_page_lead_somewhere(browser: Browser, pages: dict[str, Path]) -> None:
    visit = browser.open(pages["report"], width=1200)
    dead = "[...document.querySelectorAll('a')].filter(a => !document.querySelector(a.getAttribute('href')))"
    assert visit.evaluate(f"{dead}.length") == 0
    assert visit.evaluate("document.querySelectorAll('nav a').length") >= 6


def test_the_browser_notices_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<p style='color:#999;width:900px'>pale</p><img src='gone.png'><script>console.log('x')</script>"
    )
    visit = browser.open(page, width=390)
    assert any("gone.png" in url for url in visit.requests)
    assert any('"x"' in message for message in visit.complaints)
    assert visit.evaluate(PICTURES_WITHOUT_WORDS) == visit.evaluate(BROKEN_PICTURES) == 1
    assert [text for _, _, text in visit.evaluate(CONTRAST)] == ["pale"]
    assert visit.evaluate("document.documentElement.scrollWidth") > 390
