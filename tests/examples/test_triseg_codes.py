from pathlib import Path

import pytest

from examples import triseg_codes
from tests.triseg_teachers import save_teacher


def test_it_tells_accuracy_bits_and_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_teacher(tmp_path, steps=1)
    monkeypatch.setattr(triseg_codes, "MODEL", "lenet5")
    monkeypatch.setattr(triseg_codes, "OUT", str(tmp_path))
    monkeypatch.setattr(triseg_codes, "IMAGES", 20)
    triseg_codes.main()
    out = capsys.readouterr().out
    assert "lenet5, 20 images" in out
    assert "conv2" in out
    assert "bits instead of 8" in out
    assert out.count("µJ an image") == 3
