from dataclasses import replace

import pytest

from sparseflow.ir import Report
from sparseflow.report import Run, headline
from sparseflow.report.words import count, figure, percent, ratio, seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.5, "2.50 s"), (0.2114, "211 ms"), (0.0123, "12.3 ms"), (9.999e-3, "10.0 ms"), (4e-9, "4.00 ns"), (None, "–")],
)
def test_seconds(value, text):
    assert seconds(value).replace("\u202f", " ") == text


def test_figures_of_a_comparison():
    assert figure("top1", 1.0)[1] == percent(1.0)
    assert figure("spikes", 31490048.0) == ("spikes compared", count(31490048))
    assert figure("logits_error", 3.1e-6) == ("logits error", "3.1e-06")


def test_small_words():
    assert ratio(None) == percent(None) == "–"
    assert ratio(123.4) == "123×"
    assert ratio(0.00033) == "0.00033×"
    assert count(999) == "999"


def test_the_headline_says_what_changed(run):
    assert headline(run).replace("\u202f", " ") == "3.45× faster, same 91.8 % accuracy, 0 of 2 000 answers changed"
    worse = replace(run, accuracy=replace(run.accuracy, optimized_correct=1830, changed=9))
    assert "accuracy 91.8 % → 91.5 %, 9 of 2 000" in headline(worse).replace("\u202f", " ")
    other = replace(run, accuracy=replace(run.accuracy, optimized_correct=1837, changed=1))
    assert "accuracy 91.80 % → 91.85 %, 1 of 2 000" in headline(other).replace("\u202f", " ")
    swapped = replace(run, accuracy=replace(run.accuracy, changed=2))
    assert "same 91.8 % accuracy, 2 of 2 000" in headline(swapped).replace("\u202f", " ")


@pytest.mark.parametrize(
    ("ours", "text"), [(1.0, "As fast as dense"), (2.0, "0.50× the speed of dense"), (None, "Not")]
)
def test_the_headline_never_boasts(ours, text):
    run = Run(title="m", report=Report(model="m", target="cpu", dense_s=1.0, optimized_s=ours))
    assert headline(run).startswith(text)
