import json

from tools.render_tables import render
from tools.render_video import arms, speeds


def row(arm, drop=None, span=None, **more):
    return {
        "dataset": "digits", "synthetic": True, "arm": arm, "top1": 0.9512, "low": 0.94, "high": 0.96, "drop": drop,
        "drop_interval": span, "seeds": [0, 1, 2],
    } | more  # fmt: skip


def test_accuracies_by_arm(tmp_path):
    rows = [row("dense", clips_per_s=12345.4), row("motion 0.5", 0.005, [-0.01, 0.02])]
    body = {"rows": rows, "device": ["a GPU"], "commit": ["ab" * 20]}
    lines = arms(body).splitlines()
    assert lines[2] == "| digits (synthetic) | dense | 95.12 % | 94.0 to 96.0 |  |  | 12,345 | 3 |"
    assert lines[3] == "| digits (synthetic) | motion 0.5 | 95.12 % | 94.0 to 96.0 | 0.50 | -1.0 to 2.0 |  | 3 |"
    assert lines[-1] == "<sub>a GPU. commit abababababab.</sub>"
    (tmp_path / "v.json").write_text(json.dumps(body))
    assert arms(body) in render("<!-- table: v.arms? -->\n<!-- /table -->", tmp_path)


def test_speeds_by_form():
    one = {
        "form": "entropy", "threads": 0, "ways": {"graph": 0.008, "regional": 0.007}, "speedup": 1.919,
        "gflops": 201.23, "clips_per_s": 2285.7, "peak_bytes": 404 << 20, "train_peak_bytes": 0,
    }  # fmt: skip
    failed = one | {"form": "tome", "ways": {}, "threads": 2}
    lines = speeds({"rows": [one, failed]}).splitlines()
    assert lines[2] == "| entropy |  | 7.00 | 1.92 | 2.29e+03 | 201.2 | regional | 404 |  |"
    assert lines[3].startswith("| tome | 2 | does not run |")
