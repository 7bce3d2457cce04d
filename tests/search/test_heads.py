import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Categorical, Integer, LogFloat, Ordered, Space, When
from sparseflow.search.heads import Heads
from tests.search_problems import ordered_codes

CODES = ordered_codes(["conv1", "conv2.a"])


def test_names_give_layers_and_heads():
    heads = Heads(CODES)
    assert heads.layers == ("conv1", "conv2.a")
    assert heads.names == ("t1", "t2", "v1", "v2")
    assert [(c.layer, c.head) for c in heads.choices] == [(i, j) for i in (0, 1) for j in range(4)]


def test_an_output_stands_for_the_same_number_in_every_layer():
    space = Space(parameters=(Integer(name="a.t", low=5, high=9), Integer(name="b.t", low=2, high=6)))
    a, b = Heads(space).choices
    assert (a.output(5), b.output(5), Heads(space).codes) == (3, 3, 8)
    assert [c.output(5) for c in Heads(space, codes=256).choices] == [5, 5]


def test_what_is_legal_follows_from_what_was_chosen():
    t1, t2, v1, _ = Heads(CODES, codes=256).choices[:4]
    assert t1.legal({}) == (2, 10)
    assert t2.legal({"conv1.t1": 7}) == (11, 31)
    assert v1.legal({"conv1.t1": 7, "conv1.t2": 12}) == (8, 11)


def test_lists_are_counted_and_conditions_obeyed():
    event = When(name="kernel", values=("event",))
    space = Space(
        parameters=(
            Categorical(name="kernel", choices=("dense", "event")),
            Ordered(name="tile", choices=(4, 8, 16), when=event),
        )
    )
    kernel, tile = Heads(space).choices
    assert kernel.output("event") == 1
    assert tile.legal({"kernel": "dense"}) is None
    assert tile.legal({"kernel": "event"}) == (0, 2)
    assert Heads(space).layers == ("",)


@pytest.mark.parametrize(
    ("space", "codes", "says"),
    [
        (Space(parameters=()), None, "no parameters"),
        (Space(parameters=(LogFloat(name="r", low=1.0, high=2.0),)), None, "continuous"),
        (CODES, 35, "35 outputs, but the widest range of the space needs 36"),
    ],
)
def test_what_no_policy_can_draw_is_refused(space, codes, says):
    with pytest.raises(ConfigError, match=says):
        Heads(space, codes)
