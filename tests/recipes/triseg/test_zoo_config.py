import pytest

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.recipes.triseg.zoo_config import ZooConfig


def test_the_whole_zoo_is_meant_where_none_is_named():
    assert ZooConfig().chosen == tuple(models.names("convnets"))
    assert ZooConfig(networks=("nin",)).chosen == ("nin",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"judged": 0}, "judged is 0"),
        ({"split": "train"}, "split is 'train'"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_a_field_out_of_range_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        ZooConfig(**given)


def test_places_and_processes_do_not_decide_a_row():
    here = ZooConfig(networks=("nin",), out="a", jobs=2, report="r.json", resume=False)
    assert here.of_a_row() == ZooConfig(out="b").of_a_row()
    assert here.of_a_row() != ZooConfig(judged=10).of_a_row()
