"""The bench on a small network: every suite runs, and its checks have the figures of their names."""

import json
from pathlib import Path

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg.bench import TriSegBenchConfig, bench
from tests.triseg_teachers import save_teacher, splits

pytest.importorskip("cmaes")


def test_all_suites(tmp_path: Path) -> None:
    save_teacher(tmp_path, steps=10)
    given = splits()
    config = TriSegBenchConfig(
        model="lenet5", out=str(tmp_path), device="cpu", suites=("exact", "rate", "search", "engine"),
        methods=("default", "random", "ppo-original"), seeds=2,
        episodes=15, original_episodes=20, batch_size=8, rate_images=8, rate_candidates=4, rounds=1, histograms=20,
        rate_models=(str(tmp_path / "lenet5_qat_preconvert.safetensors"),), maps=20, exported=4,
        report=str(tmp_path / "bench" / "triseg.json"),
    )  # fmt: skip
    body = bench(config, splits=given, progress=False)
    assert given.test.opened == ()
    assert json.loads((tmp_path / "bench" / "triseg.json").read_text())["checks"] == body["checks"]
    named = {check["name"]: check for check in body["checks"]}
    assert len(named) == len(body["checks"]) - 1 == 2 + 4 + 9 + 2 + 3
    assert body["rate_lenet5"]["batched"] > 0
    for word in ("differ", "unlike brute force", "batched score"):
        assert next(c for n, c in named.items() if word in n)["ok"], word
    assert all(check["ok"] for name, check in named.items() if "engine unlike" in name)
    assert set(body["engine"]["engine_s"]) == {"plain", "codes"}
    assert len(body["search"]["rows"]) == 6
    assert body["search"]["rows"][0]["best"]["15"] >= body["search"]["start_reward"]
    for row in body["search"]["rows"]:
        assert row["history"][-1] == (15, row["best"]["15"])
        assert [reward for _, reward in row["history"]] == sorted(reward for _, reward in row["history"])
    assert body["search"]["documented"][0]["budget"] == 20


def test_settings_are_checked() -> None:
    for given, said in (
        ({"suites": ("all",)}, "suites are"),
        ({"methods": ("random", "tpe")}, "expected 'default'"),
        ({"methods": ("default", "magic")}, "method is 'magic'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"original_episodes": -1}, "original_episodes"),
    ):
        with pytest.raises(ConfigError, match=said):
            TriSegBenchConfig(**given)  # type: ignore[arg-type]
