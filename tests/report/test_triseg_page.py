import json
import re
from dataclasses import replace

from sparseflow.report import TriSegRun, render_triseg, write_triseg
from tests.report.test_page import _parsed
from tests.report.triseg_run import made_triseg


def test_the_page_is_balanced_and_needs_no_network():
    html = render_triseg(made_triseg())
    parser = _parsed(html)
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith(("data:", "#")) for link in parser.links)
    assert not re.search(r"url\(\s*['\"]?http|@import|fetch\(|XMLHttpRequest", html)


def test_every_site_searcher_and_machine_is_shown_and_names_are_escaped():
    run = made_triseg()
    html = render_triseg(run)
    table = html.split('id="layers"')[1].split("</table>")[0]
    for site in run.sites:
        name = site.name.replace("<", "&lt;").replace(">", "&gt;")
        assert f"<code>{name}</code>" in table
        assert f"Codes of {name} with their segments" in html
    assert "conv<1>" not in html.split('<script type="application/json"')[0]
    for curve in run.curves:
        assert f"{curve.name}: " in html
    assert "int8, zeros skipped" in html
    assert "Horowitz" in html
    assert "27.6\u202f%" in html


def test_an_empty_run_still_makes_a_page():
    html = render_triseg(TriSegRun(title="m", model="m", acc_teacher=0, acc_student=0, split="val", images=1))
    _parsed(html)
    assert "0.00 points of accuracy lost" in html
    assert "What it costs hardware" not in html


def test_clipped_runs_do_not_speak_of_escapes():
    html = render_triseg(replace(made_triseg(), overflow="clip"))
    assert "beyond tmax" not in html


def test_saturated_runs_tell_of_tmax_and_not_of_escapes():
    html = render_triseg(replace(made_triseg(), overflow="saturate"))
    assert "those beyond tmax become tmax" in html
    assert "Escapes" not in html


def test_both_files_are_written(tmp_path):
    page, data = write_triseg(made_triseg(), tmp_path / "new")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(data.read_text(encoding="utf-8"))["model"] == "alexnet"
