import json

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.video.bench import FORMS, VideoBenchConfig, bench, built

CPU = torch.device("cpu")
SMALL = (("embed_dim", 32), ("depth", 2), ("num_heads", 2), ("patch_size", 8), ("num_classes", 3))


def small(**more):
    given = {"device": "cpu", "frames": 2, "side": 24, "model_args": SMALL, "repeats": 2, "threads": (1,)}
    return VideoBenchConfig(**{**given, "compile": False, **more})


def test_forms_are_what_they_say():
    config = small(keep=0.25)
    assert built("dense", config, CPU).pruner is None
    assert built("tome", config, CPU).pruner.config.score == "tome"
    assert built("sliced", config, CPU).args.heads == (1, 1)
    assert built("sliced", config, CPU).args.hidden == (64, 64)
    both = built("both", config, CPU)
    assert both.args.heads == (1, 1)
    assert both.pruner.config.keep == 0.25
    first, again = (built("entropy", config, CPU).head.weight for _ in range(2))
    assert torch.equal(first, again)


def test_all_forms_are_timed_and_checked(tmp_path):
    said = []
    body = bench(small(forms=FORMS, out=str(tmp_path / "a.json")), say=said.append)
    assert json.loads((tmp_path / "a.json").read_text())["checks"] == body["checks"]
    rows = {r["form"]: r for r in body["rows"]}
    assert list(rows) == ["dense", *FORMS]
    assert len(said) == len(rows)
    assert all(r["ways"]["eager"] > 0 and not r["failures"] for r in rows.values())
    assert rows["dense"]["speedup"] == 1.0
    assert rows["uniform"]["gflops"] < 0.8 * rows["dense"]["gflops"]
    assert rows["both"]["gflops"] < rows["sliced"]["gflops"] < rows["dense"]["gflops"]
    assert [c["show"] for c in body["checks"]] == ["1"] * 4 + ["3"]
    assert all(c["ok"] for c in body["checks"][:4])


@pytest.mark.parametrize(
    ("given", "message"), [({"forms": ("sparse",)}, "forms has sparse"), ({"threads": (0,)}, "at least 1")]
)
def test_bad_settings(given, message):
    with pytest.raises(ConfigError, match=message):
        small(**given)
