import json
import re

from sparseflow.report import ForecastRun, render_forecast, write_forecast
from tests.report.forecast_run import made_forecast
from tests.report.test_page import _parsed


def test_the_page_is_balanced_and_needs_no_network():
    html = render_forecast(made_forecast())
    parser = _parsed(html)
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith(("data:", "#")) for link in parser.links)
    assert not re.search(r"url\(\s*['\"]?http|@import|fetch\(|XMLHttpRequest", html)


def test_every_result_and_picture_is_shown_and_names_are_escaped():
    run = made_forecast()
    html = render_forecast(run)
    table = html.split('id="results"')[1].split("</table>")[0]
    for row in run.results:
        assert row.name in table
        assert f"{row.mse:.4f}" in table
    assert "✗ MSE 0.3800, asked for &lt;= 0.375" in html
    assert html.count('<svg class="ahead"') == 2
    assert "load&lt;1&gt;" in html
    assert "load<1>" not in html.split('<script type="application/json"')[0]
    assert "seed 2, val" in html
    assert "Mean squared error by readings ahead" in html
    shown = html.split('<svg class="ahead"')[1]
    assert shown.count("polyline") == 3
    assert "24 seen" in shown
    assert "16 ahead" in shown


def test_a_bare_result_still_makes_a_page():
    bare = ForecastRun(
        title="t", split="test", windows=3, seq_len=2, forecast_len=1, results=made_forecast().results[:1]
    )
    html = render_forecast(bare)
    _parsed(html)
    for part in ("Forecasts against truth", "How it learned", "Variate by variate", "Proof"):
        assert part not in html


def test_both_files_are_written(tmp_path):
    page, data = write_forecast(made_forecast(), tmp_path / "new")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(data.read_text(encoding="utf-8"))["windows"] == 2785
