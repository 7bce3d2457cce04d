import json

from tools.render_pack import PACK
from tools.render_tables import render


def made():
    def form(mse, epochs=(), seconds=0.0):
        return {"mse": mse, "mae": 0.4, "epochs": list(epochs), "trained_s": seconds}

    start, better = {"epoch": -1, "kept": False}, {"epoch": 0, "kept": True}
    tasks = [
        {
            "task": f"ETTh{i}_96",
            "fp32": {"mse": 0.25, "mae": 0.375, "windows": 2785},
            "forms": {"W8A8": form(0.25), "W4A8, LSQ": form(0.255, lines, 12.6)},
        }
        for i, lines in ((1, (start, better)), (2, ({**start, "kept": True}, {**better, "kept": False})))
    ]
    rows = [
        {"name": "C++ engine, avx2", "of": 12345, "mismatches": 0, "cycles": None, "note": ""},
        {"name": "Verilog, scans", "of": 10, "mismatches": 1, "cycles": 65432, "note": ""},
        {"name": "HLS C++", "of": 0, "mismatches": None, "cycles": None, "note": "install g++"},
    ]
    cells = {
        "tool": "yosys, an open-tool estimate", "target": "zcu102", "has": {"lut": 1000.0, "dsp": 200},
        "sf_matvec": {"lut": 1, "ff": 2, "dsp": 3}, "total": {"lut": 50, "ff": 2, "dsp": 3},
    }  # fmt: skip
    estimate = {"linear_cycles": 3e5, "scan_cycles": 3e4, "latency_s": 1.1e-3, "energy_j": 1.6e-3, "clock_hz": 3e8,
                "note": "norms are left out"}  # fmt: skip
    edges = {"linear": {"halves": 1234}, "scan": {"largest Δ": 5}}
    return {"tasks": tasks, "pack": {"rows": rows, "cells": cells, "estimate": estimate, "edges": edges}}


def test_forms_stand_beside_float32():
    text = PACK["integers"](made())
    assert text.splitlines()[0] == "| forecaster | windows | float32 | W8A8 | W4A8, LSQ |"
    assert "| ETTh1, 96 ahead | 2785 | 0.2500 / 0.3750 | 0.2500 / 0.4000 (+0.00%) | 0.2550 / 0.4000 (+2.00%) |" in text
    assert "ETTh1, 96: 13 s of training, epoch 1 of 1 kept; ETTh2, 96: 13 s of training, the start did best" in text


def test_rows_have_cycles_or_a_reason():
    text = PACK["rows"](made())
    assert "| C++ engine, avx2 | 12,345 | 0 |  |" in text
    assert "| Verilog, scans | 10 | 1 | 65,432 |" in text
    assert "| HLS C++ | 0 | install g++ |  |" in text


def test_cells_are_shares_of_the_target():
    text = PACK["cells"](made())
    assert "| module | LUT | DSP |" in text
    assert "| a ZCU102 has | 1,000 (5.0% taken) | 200 (1.5% taken) |" in text
    assert "1.10 ms, 1.60 mJ at 300 MHz; norms are left out." in text
    body = made()
    body["pack"]["cells"] = {"note": "yosys is not installed"}
    assert PACK["cells"](body) == "Not measured yet."


def test_edges_are_counted_where_a_document_asks(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(made()))
    text = render("<!-- table: p.edges? -->\n<!-- /table -->", tmp_path)
    assert "| linear | halves | 1,234 |" in text
    assert "| scan | largest Δ | 5 |" in text
