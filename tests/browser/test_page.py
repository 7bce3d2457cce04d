"""The page of a run, opened in a real browser."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from sparseflow.report import write_run, write_triseg
from tests.report.triseg_run import made_triseg

webdriver = pytest.importorskip("selenium.webdriver")

_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_WAIT_S = 60

pytestmark = pytest.mark.skipif(
    not (_CHROMIUM and _DRIVER), reason="chromium and chromedriver are not installed (Debian: chromium chromium-driver)"
)


def _made_run():
    path = Path(__file__).parents[1] / "report" / "conftest.py"
    spec = importlib.util.spec_from_file_location("made_for_the_browser", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.made_run()


@pytest.fixture(scope="module")
def run():
    return _made_run()


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return write_run(run, tmp_path_factory.mktemp("run"))[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.binary_location = _CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
    driver.set_page_load_timeout(_WAIT_S)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page):
    """The page, freshly loaded in a light window of 1280 pixels."""
    browser.get_log("browser")
    browser.get_log("performance")
    _see(browser, scheme="light", width=1280)
    browser.get(page.as_uri())
    return browser


def _see(browser, *, scheme, width):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def _all(browser, css):
    return browser.find_elements("css selector", css)


def test_title_and_headline(opened, run):
    assert opened.title == f"{run.title} · sparseflow"
    headline = _all(opened, "#headline")[0].text
    assert headline.startswith("3.45× faster, same 91.8")
    assert _all(opened, "#headline em")[0].text == "3.45× faster"


def test_the_console_stays_empty_and_nothing_is_fetched(opened, page):
    assert opened.get_log("browser") == []
    events = (json.loads(entry["message"])["message"] for entry in opened.get_log("performance"))
    urls = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {u for u in urls if not u.startswith("data:")} == {page.as_uri()}


def test_every_chart_has_its_bars(opened, run):
    timed = [v for v in run.variants if v.latency_s is not None]
    widths = [b.size["width"] for b in _all(opened, "#chart-variants rect.bar")]
    assert len(widths) == len(run.variants)
    assert sum(w > 1 for w in widths) == len(timed)
    assert len(_all(opened, "#chart-times rect.bar")) == 2 * len(run.report.layers)
    assert len(_all(opened, "#chart-density rect.bar")) == len([x for x in run.report.layers if x.density])
    assert len(_all(opened, ".scatter circle")) == len(run.report.layers)


def test_bars_are_as_long_as_their_figures(opened):
    dense, ours = (b.size["width"] for b in _all(opened, ".duel rect.bar"))
    assert ours / dense == pytest.approx(44 / 152, abs=0.01)


def test_every_layer_is_in_the_table_and_in_the_picture(opened, run):
    names = [x.name for x in run.report.layers]
    assert [c.text for c in _all(opened, "#layers tbody code")] == names
    assert [c.text.replace("\n", "") for c in _all(opened, "#network .node b")] == names


def test_pictures_are_decoded(opened, run):
    loaded = opened.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(loaded) == len(run.samples) + sum(s.png is not None for s in run.stages)
    assert all(loaded)


def test_the_table_sorts_both_ways(opened):
    density = "#layers tbody td:nth-child(5)"
    button = _all(opened, "#layers thead th:nth-child(5) button")[0]
    for direction in ("ascending", "descending"):
        opened.execute_script("arguments[0].click()", button)
        values = [float(c.get_attribute("data-value") or -1) for c in _all(opened, density)]
        assert values == sorted(values, reverse=direction == "descending")
        assert _all(opened, "#layers th:nth-child(5)")[0].get_attribute("aria-sort") == direction


def test_the_embedded_figures_are_those_of_report_json(opened, page):
    text = opened.execute_script("return document.querySelector('#data').textContent")
    assert json.loads(text) == json.loads(page.with_name("report.json").read_text(encoding="utf-8"))


def _luminance(colour):
    parts = [int(p) / 255 for p in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


_COLOURS = """
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c !== "rgba(0, 0, 0, 0)") return c;
  }
};
return [...document.querySelectorAll(arguments[0])].map(e => [e.textContent, getComputedStyle(e).color, behind(e)]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(opened, scheme):
    _see(opened, scheme=scheme, width=1280)
    body = _luminance(opened.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert body > 0.8 if scheme == "light" else body < 0.05
    found = opened.execute_script(
        _COLOURS, "h1, h1 em, h2, h3, p, dt, dd, td, th, .tag, .soft, .figure, small, a, footer"
    )
    assert len(found) > 50
    for text, front, back in found:
        high, low = sorted((_luminance(front), _luminance(back)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text!r} is {front} on {back}"


@pytest.mark.parametrize("width", [400, 768, 1280])
def test_nothing_is_wider_than_the_window(opened, width):
    _see(opened, scheme="light", width=width)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    out = "return [...document.querySelectorAll('h1, h2, p, .card, .bar-row, .figure, .node')].filter(e => "
    out += "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert opened.execute_script(out) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_an_approximated_network_is_drawn_and_read(browser, tmp_path, scheme):
    run = made_triseg()
    _see(browser, scheme=scheme, width=1280)
    browser.get_log("browser")
    browser.get(write_triseg(run, tmp_path)[0].as_uri())
    assert browser.get_log("browser") == []
    assert len(_all(browser, "svg.codes")) == len(run.sites)
    bars = sum(sum(n > 0 for n in site.counts[1:]) for site in run.sites)
    assert len(_all(browser, "svg.codes rect:not(.band)")) == bars
    assert len(_all(browser, "svg.plane polyline")) == len(run.curves)
    assert len(_all(browser, "svg.plane circle")) == len(run.findings) - 1
    assert [c.text for c in _all(browser, "#layers tbody code")] == [site.name for site in run.sites]
    for text, front, back in browser.execute_script(_COLOURS, "h1, h2, h3, p, td, th, figcaption, .soft, .figure"):
        high, low = sorted((_luminance(front), _luminance(back)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text!r} is {front} on {back}"
    for width in (400, 1280):
        _see(browser, scheme=scheme, width=width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
