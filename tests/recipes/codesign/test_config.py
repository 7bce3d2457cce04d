import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.settings import read_settings


def test_nested_settings_come_from_a_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("slots: 4\nfixed: [small_core]\nhw: {form: spec}\nvideo: {clips: 64, ast_cfg: {keep: 0.25}}\n")
    config = read_settings(CodesignConfig, path, seed=3)
    assert (config.slots, config.fixed, config.hw.latency, config.seed) == (4, ("small_core",), 1e-3, 3)
    assert (config.task.seed, config.task.epochs, config.task.ast_cfg) == (3, 10, {"keep": 0.25})
    assert config.task.out == "outputs/codesign/version_c_full_seed3"


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "full"},
        {"objective": "mean"},
        {"strategy": "best"},
        {"slots": 0},
        {"phases": "AE"},
        {"phases": "AA"},
        {"phases": ""},
        {"warmup": 0.8, "ramp": 0.4},
        {"slots": 3, "fixed": ("big_core",) * 4},
        {"fixed": ()},
        {"guard": -0.1},
        {"alpha_lr": 0.0},
        {"mode": "multi_chip_fixed", "two_stage": True},
    ],
)
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(ConfigError):
        CodesignConfig(**given)


def test_a_run_is_called_by_what_it_does():
    assert CodesignConfig(two_stage=True, out="o").folder.as_posix() == "o/version_c_full_two_stage_seed0"
    assert CodesignConfig(name="x").title == "x"
