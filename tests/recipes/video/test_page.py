import json
from pathlib import Path

import pytest
from PIL import Image

from sparseflow.errors import ConfigError
from sparseflow.recipes.video import train_video
from sparseflow.recipes.video.page import video_page
from tests.video_runs import dense, small_video


def test_networks_side_by_side(tmp_path):
    configs = [dense(tmp_path, epochs=1), small_video(tmp_path, epochs=1)]
    files = [train_video(c, progress=False)["file"] for c in configs]
    body = video_page(files, tmp_path / "page", clips=2, device="cpu", pictures=True)
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert [r["keep"] for r in body["rows"]] == [1.0, 0.5]
    assert body["rows"][1]["gflops"] < body["rows"][0]["gflops"]
    assert all(r["clips_per_s"] > 0 for r in body["rows"])
    assert list(body["shown"]) == [body["rows"][1]["name"]]
    assert len(body["shown"][body["rows"][1]["name"]]) == 2
    drawn = [Path(f) for f in body["files"][2:]]
    assert [f.name for f in drawn] == ["kept_1_1.png", "kept_1_2.png"]
    assert all(Image.open(f).n_frames == 4 for f in drawn)
    # Of each clip it moves, stands, and has its score.
    assert page.count("data:image/png;base64,") == 6
    assert json.loads((tmp_path / "page" / "report.json").read_text())["rows"] == list(body["rows"])


def test_what_cannot_be_compared(tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint"):
        video_page([], tmp_path)
    few = {"digit": 8, "speeds": [2], "still": 1, "clutter": 2}
    configs = [dense(tmp_path / "a", epochs=1), dense(tmp_path / "b", epochs=1, digits=few)]
    files = [train_video(c, progress=False)["file"] for c in configs]
    with pytest.raises(ConfigError, match="different data"):
        video_page(files, tmp_path / "page", device="cpu")
