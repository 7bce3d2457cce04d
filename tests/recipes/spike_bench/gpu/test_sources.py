import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.sources import on_disk
from sparseflow.recipes.spike_bench.gpu import sources
from sparseflow.recipes.spike_bench.gpu.settings import STAGES
from sparseflow.recipes.spike_bench.gpu.sources import LEFT_OUT, ROOT, agreed, present, stage_sources

GPU = "src/sparseflow/recipes/spike_bench/gpu"


@pytest.fixture(scope="module")
def tree():
    return on_disk(ROOT)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_hangs_on_itself_and_on_the_kernels_but_not_on_other_capabilities(tree, stage):
    found = stage_sources(tree, stage)
    assert f"{GPU}/{stage}.py" in found
    assert f"{GPU}/settings.py" in found
    assert "src/sparseflow/ops/spike_layer/spike_layer.cu" in found
    foreign = ("/cmamba/", "/video_vit/", "/prune/", "/triseg/", "/forecast/", "/export/", "window_entropy", "/csrc/")
    assert [path for path in found if any(part in path for part in foreign)] == []


def test_what_is_left_out_is_there_and_reached_else(tree, monkeypatch):
    assert LEFT_OUT.keys() <= tree.keys()
    monkeypatch.setattr(sources, "LEFT_OUT", {})
    reached = set().union(*(stage_sources(tree, stage) for stage in ("network", "coverage")))
    assert reached >= LEFT_OUT.keys()


def test_the_builders_hang_on_their_own_benchmark_and_on_optimize(tree):
    found = stage_sources(tree, "coverage")
    assert {"benchmarks/coverage_gpu.py", "tests/torchvision_shim.py"} <= found.keys()
    assert "src/sparseflow/compress/sparsify/settle_gpu.py" in found


def test_a_package_without_a_checkout_names_no_sources(tmp_path):
    assert present(("seed",), tmp_path) == {}
    assert set(present(("seed", "blocks"))) == {"seed", "blocks"}


def of(commit, **files):
    stage = {"commit": commit, **({"sources": files} if files else {})}
    return {"commit": commit, "stages": {"seed": stage}}


def test_records_of_one_commit_need_no_repository_but_may_not_contradict_each_other(tmp_path):
    one, two = of("abc", a="1", b="2"), of("abc", b="2", c="3")
    assert agreed({"x": one, "y": two, "z": of("abc")}, "abc", tmp_path) == {"a": "1", "b": "2", "c": "3"}
    with pytest.raises(ConfigError, match=r"z, stage seed(.|\n)*b: 4 and 2"):
        agreed({"x": one, "z": of("abc", b="4")}, "abc", tmp_path)


def test_records_of_two_commits_need_their_repository(tmp_path):
    with pytest.raises(DataError, match="full clone"):
        agreed({"x": of("abc"), "y": of("def")}, "abc", tmp_path)


def test_many_differences_are_counted(monkeypatch):
    trees = {"abc": {}, "def": {f"{i:02}.py": "1" for i in range(30)}}
    monkeypatch.setattr(sources, "of_commit", lambda root, name: trees[name])
    monkeypatch.setattr(sources, "stage_sources", lambda tree, stage: tree)
    with pytest.raises(ConfigError, match=r"00.py: none and 1(.|\n)*19.py(.|\n)*and 10 more"):
        agreed({"x": of("abc")}, "def")
