import json

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.codesign.page import codesign_page


def test_a_run_becomes_a_page(finished, tmp_path):
    body = json.loads(finished)
    page = codesign_page([body["file"]], tmp_path / "page")
    html = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" in html
    assert html.count('class="die ') == len(body["design"]["dies"])
    assert sum(s["chosen"] for s in page["seen"]) == 1
    assert {w["weight"] for w in page["weighings"]} >= {"latency", "energy", "area", "chip"}
    assert json.loads((tmp_path / "page" / "report.json").read_text(encoding="utf-8"))["dies"]


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        codesign_page([], tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"x\.json"):
        codesign_page([str(tmp_path / "x.json")], tmp_path)
