from pathlib import Path

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.codesign.experiments import EXPERIMENTS, experiments_table, smoke
from sparseflow.recipes.settings import read_settings
from sparseflow.recipes.video.config import VideoConfig

CONFIGS = Path(__file__).parents[3] / "configs"


def test_every_experiment_of_the_study_is_there_once():
    ids = [e.id for e in EXPERIMENTS]
    assert len(set(ids)) == len(ids)
    assert {"P0-1", "P0-2", "P1-1", "P1-2", "P1-3", "P2-1", "P2-2", "P2-3", "P3-1", "P3-2", "P3-3", "SM-1", "SM-2"} <= {
        *ids
    }


@pytest.mark.parametrize("experiment", [e for e in EXPERIMENTS if e.kind != "fit"], ids=lambda e: e.id)
def test_its_settings_are_valid(experiment):
    kind = {"video": VideoConfig, "codesign": CodesignConfig}[experiment.kind]
    read_settings(kind, CONFIGS / experiment.config)


def test_the_table_names_all_of_them_with_their_commands():
    table = experiments_table()
    for e in EXPERIMENTS:
        assert f"| {e.id} |" in table
        assert e.command in table


def test_ablations_change_what_they_say():
    full, nochip = (read_settings(CodesignConfig, CONFIGS / f"vc_phase3_{n}_ucf101.yaml") for n in ("full", "nochip"))
    assert full.hw.chip > nochip.hw.chip == 0.0
    assert nochip.video == full.video


def test_an_unknown_experiment_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="P3-1"):
        smoke("P9", out=tmp_path)
    with pytest.raises(DataError, match="is not there"):
        smoke("P3-1", out=tmp_path, configs=tmp_path)
