import json

from sparseflow.report.video import Shown
from sparseflow.report.video_page import render_video, throughput_plane, write_video
from tests.report.test_video import row, run


def test_every_part_is_there_and_nothing_is_fetched(tmp_path):
    dense = row("dense <b>", top1=0.95, keep=1.0, clips_per_s=10.0, dense=True)
    shown = {"motion": (Shown(title="a: said b", right=False, strip=b"1", moving=b"2", score=b"3"),)}
    made = run(row(), dense, shown=shown, notes=("n",), command="c", protocol=("p",), environment={"CPU": "x"})
    page = render_video(made)
    for part in ("motion", "dense &lt;b&gt;", "✗ a: said b", "synthetic motion, not filmed", 'id="chart-throughput"'):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/png;base64,") == 3
    page_file, data_file = write_video(made, tmp_path / "new")
    assert page_file.read_text(encoding="utf-8") == page
    assert json.loads(data_file.read_text(encoding="utf-8"))["headline"] == made.headline


def test_what_is_empty_is_left_out():
    page = render_video(run(row(clips_per_s=0.0)))
    assert "What was kept" not in page
    assert "chart-throughput" not in page
    assert throughput_plane(run(row())) is None


def test_places_of_the_plane():
    plane = throughput_plane(run(row(top1=0.8, clips_per_s=20.0), row(top1=0.9, clips_per_s=10.0, dense=True)))
    assert [(s.x, s.y, s.kind) for s in plane.spots] == [(1.0, 0.0, "chosen"), (0.5, 1.0, "teacher")]
