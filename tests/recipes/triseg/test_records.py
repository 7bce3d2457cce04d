"""Keys of scores: the same for the same network, images and reward, and for nothing else."""

from pathlib import Path

from sparseflow.compress.approximate import RewardConfig
from sparseflow.recipes.triseg.problem import pose
from sparseflow.recipes.triseg.records import open_records, run_folder, score_key
from sparseflow.recipes.triseg.search_config import SearchConfig
from tests.triseg_teachers import save_teacher, splits


def test_keys_tell_apart_what_scores_depend_on(tmp_path: Path) -> None:
    save_teacher(tmp_path, steps=1)
    given = splits()

    def key(images: int = 8, run: str = "", **more: object) -> object:
        config = SearchConfig(model="lenet5", out=str(tmp_path), device="cpu", calib_batches=1, **more)  # type: ignore[arg-type]
        return score_key(pose(config, splits=given), given.calib.take(images), run=run)

    base = key()
    assert base == key(seed=5, episodes=3, method="random", result_file="b.json")
    others = [
        key(images=9), key(run="a"), key(overflow="clip"), key(layers=("conv1",)),
        key(reward=RewardConfig(temperature=3.0)), key(attention_layers=("conv2",)),
    ]  # fmt: skip
    assert len({base, *others}) == len(others) + 1


def test_records_lie_beside_the_run_or_where_they_are_asked_for(tmp_path: Path) -> None:
    config = SearchConfig(out=str(tmp_path), result_file="mine.json")
    assert run_folder(config) == tmp_path / "runs" / "triseg" / "mine"
    with open_records(config) as store:
        assert str(run_folder(config) / "scores.sqlite") in store.place
    with open_records(SearchConfig(out=str(tmp_path), records=str(tmp_path / "all.sqlite"))) as store:
        assert "all.sqlite" in store.place
