import json
import re
from html.parser import HTMLParser

import pytest

from sparseflow.errors import DataError
from sparseflow.ir import Report
from sparseflow.report import Run, page, render, write_run

_VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}


class _Balance(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []
        self.ids = []
        self.links = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[k] for k in ("src", "href") if k in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _parsed(html):
    parser = _Balance()
    parser.feed(html)
    assert parser.open == []
    return parser


def test_the_page_is_balanced_and_its_ids_are_unique(run):
    parser = _parsed(render(run))
    assert len(parser.ids) == len(set(parser.ids))


def test_the_page_needs_no_network(run):
    html = render(run)
    assert all(link.startswith(("data:", "#")) for link in _parsed(html).links)
    assert not re.search(r"url\(\s*['\"]?http|@import|fetch\(|XMLHttpRequest", html)


def test_every_layer_and_every_refusal_is_shown(run):
    html = render(run)
    table = html.split('id="layers"')[1].split("</table>")[0]
    assert all(f"<code>{x.name}</code>" in table for x in run.report.layers)
    assert "kept dense" in html
    assert "its input is the image" in html
    assert "features.5.conv runs without fusion" in html


def test_text_from_outside_is_escaped(run):
    html = render(run)
    assert "<not>" not in html
    assert "&lt;not&gt; faster" in html


def test_an_empty_run_still_makes_a_page():
    html = render(Run(title="m", report=Report(model="m", target="cpu")))
    _parsed(html)
    assert "Not timed" in html
    assert "Nothing was refused" in html


def test_write_run_writes_both_files_and_nothing_else(run, tmp_path):
    html, data = write_run(run, tmp_path / "demo")
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["report.html", "report.json"]
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(data.read_text(encoding="utf-8"))["title"] == run.title


def test_a_page_that_cannot_be_made_leaves_no_file(run, tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_run(run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(run):
    with pytest.raises(DataError, match="/proc/nowhere"):
        write_run(run, "/proc/nowhere")
