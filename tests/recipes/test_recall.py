import json

import pytest

from sparseflow.recipes.recall import recall

MACHINE = {"Processor": "x", "torch": "2.13", "Commit": "abc"}
PAIRS = {"frozen": "compiled"}


def _variant(name, latency_s, measured=""):
    return {"name": name, "latency_s": latency_s, "measured": measured}


@pytest.fixture
def report(tmp_path):
    body = {
        "command": "demo", "batch": 16, "created": "2026-01-01T00:00:00+00:00", "environment": MACHINE,
        "variants": [_variant("frozen", 0.9), _variant("compiled", 1.0), _variant("never ran", None)],
    }  # fmt: skip

    def write(**other):
        path = tmp_path / "report.json"
        path.write_text(json.dumps({**body, **other}), encoding="utf-8")
        return path

    return write


def _recall(path, **other):
    given = {"command": "demo", "batch": 16, "environment": MACHINE, **other}
    return recall(path, given.pop("pairs", PAIRS), **given)


def test_a_comparison_is_recalled_with_its_date(report):
    (found,) = _recall(report()).values()
    assert (found.other, found.ratio, found.measured) == ("compiled", 0.9, "2026-01-01T00:00:00+00:00")
    assert "0.900 times" in found.note
    assert "2026-01-01" in found.note


def test_another_commit_of_ours_changes_nothing_about_the_dense_network(report):
    assert _recall(report(), environment={**MACHINE, "Commit": "def-dirty"})


def test_what_was_recalled_keeps_the_date_of_its_measurement(report):
    path = report(variants=[_variant("frozen", 0.9, "2025-12-24"), _variant("compiled", 1.0)])
    assert _recall(path)["frozen"].measured == "2025-12-24"


@pytest.mark.parametrize(
    "other",
    [
        {"command": "demo --batch 1"},
        {"batch": 8},
        {"environment": {**MACHINE, "torch": "2.14"}},
        {"environment": {**MACHINE, "Threads": "1"}},
        {"pairs": {"never ran": "compiled"}},
        {"pairs": {"unknown": "compiled"}},
        {"pairs": {"frozen": "never ran"}},
    ],
)
def test_nothing_is_recalled_from_another_run(report, other):
    assert _recall(report(), **other) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"command": "demo", "batch": 16}', "{broken"])
def test_a_damaged_or_absent_report_tells_nothing(tmp_path, text):
    path = tmp_path / "report.json"
    assert _recall(path) == {}
    path.write_text(text)
    assert _recall(path) == {}
