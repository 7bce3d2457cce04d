import pytest

from examples import spiking_inference


def test_it_runs_and_changes_no_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(spiking_inference, "IMAGES", 8)
    monkeypatch.setattr(spiking_inference, "BATCH", 4)
    spiking_inference.main()
    out = capsys.readouterr().out
    assert "same answers   8 of 8" in out
    assert "features.conv2" in out
