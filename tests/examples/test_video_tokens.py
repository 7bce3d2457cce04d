import pytest
import torch

from examples import video_tokens


def test_what_moves_is_found():
    clips = torch.zeros(1, 3, 1, 16, 16, dtype=torch.uint8)
    clips[0, 1, 0, 9, 2] = 1
    moving = video_tokens.moving_patches(clips, 8).view(3, 2, 2)
    assert moving.nonzero().tolist() == [[0, 1, 0], [1, 1, 0], [2, 1, 0]]


def test_motion_finds_what_moves_and_chance_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(video_tokens, "CLIPS", 8)
    video_tokens.main()
    rows = {words[0]: words for words in (line.split() for line in capsys.readouterr().out.splitlines()[1:])}
    assert all(row[2] == "25%" for row in rows.values())
    shares = {name: float(row[7].rstrip("%")) for name, row in rows.items()}
    assert shares["motion"] > 95
    assert shares["motion"] > shares["entropy"] > shares["random"]
    assert 15 < shares["random"] < 35
