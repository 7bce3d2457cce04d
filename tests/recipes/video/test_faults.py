import pytest

from sparseflow.recipes.video import faults


@pytest.mark.parametrize("name", faults.FAULTS)
def test_every_fault_is_told(name):
    assert faults.told(name)


def test_out_of_a_reading_process_too():
    assert faults.told("a broken frame is named", workers=1)


def test_what_is_not_as_expected_is_seen(monkeypatch):
    monkeypatch.setitem(faults.FAULTS, "nothing is wrong", lambda tree: "an error")
    monkeypatch.setitem(faults.FAULTS, "a list is gone", lambda tree: faults._no_list(tree) and "")
    assert not faults.told("nothing is wrong")
    assert not faults.told("a list is gone")
