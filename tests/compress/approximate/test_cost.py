import json
import math
from dataclasses import replace

import pytest

from sparseflow.compress.approximate.cost import Reader, Stored, TriSegCost
from sparseflow.compress.approximate.energy import EnergyTable

TABLE = EnergyTable(
    name="ones", technology="paper", multiply_int8_j=1.0, multiply_int32_j=10.0, add_int32_j=100.0,
    compare_int8_j=1000.0, memory_j_per_bit=10000.0,
)  # fmt: skip
FIRST = Reader(
    layer="conv1", source="x", sites=(), outputs=10, pairs=200, pairs_exact_nonzero=150, pairs_nonzero=150,
    pairs_escaped=150,
)  # fmt: skip
SECOND = Reader(
    layer="conv2", source="c1", sites=("conv1",), outputs=20, pairs=1000, pairs_exact_nonzero=400, pairs_nonzero=300,
    pairs_escaped=10,
)  # fmt: skip
IMAGE = Stored(name="x", sites=(), elements=(0, 0, 0, 50), exact_nonzero=40)
CODES = Stored(name="c1", sites=("conv1",), elements=(60, 20, 10, 10), exact_nonzero=45)


def cost(**changed):
    given = {"images": 2, "readers": (FIRST, SECOND), "stored": (IMAGE, CODES), "made": 400, "table": TABLE}
    return TriSegCost(**{**given, **changed})


def test_a_reader_saves_all_but_the_escapes_and_two_products_an_output():
    assert SECOND.multiplies == 10 + 2 * 20
    assert SECOND.avoided == 0.95
    assert FIRST.multiplies == 150
    two = Reader(**{**{f: getattr(SECOND, f) for f in Reader.__dataclass_fields__}, "sites": ("a", "b")})
    assert two.levels == 80
    assert replace(SECOND, values=3).multiplies == 10 + 3 * 20


def test_bits_are_a_tag_and_the_escapes():
    assert CODES.shares == (0.6, 0.2, 0.1, 0.1)
    assert CODES.bits == pytest.approx(2 + 0.8)
    entropy = -(0.6 * math.log2(0.6) + 0.2 * math.log2(0.2) + 0.2 * math.log2(0.1))
    assert CODES.entropy_bits == pytest.approx(entropy + 0.8)
    assert CODES.entropy_bits < CODES.bits
    assert CODES.zero_skipping_bits == pytest.approx(1 + 8 * 0.45)
    assert IMAGE.bits == IMAGE.entropy_bits == 8
    four = replace(CODES, elements=(60, 20, 10, 0, 10))
    assert four.bits == 2
    assert four.entropy_bits == pytest.approx(entropy)


def test_one_segment_alone_needs_no_bits_of_entropy():
    silent = Stored(name="s", sites=("s",), elements=(9, 0, 0, 0), exact_nonzero=0)
    assert silent.entropy_bits == 0
    assert Stored(name="s", sites=("s",), elements=(0, 0, 0, 0), exact_nonzero=0).bits == 2


def test_totals_leave_out_what_is_no_site_unless_asked():
    c = cost()
    assert c.multiplies_avoided == 0.95
    assert c.multiplies_avoided_whole == pytest.approx(1 - 200 / 1200)
    assert c.zero_skipping_avoided == 0.6
    assert c.bits_per_activation == CODES.bits
    assert cost(readers=(), stored=()).bits_per_activation == 8
    assert cost(readers=(), stored=()).multiplies_avoided == 0


def test_machines_add_up_by_hand():
    int8, skipping, ours = cost().machines
    assert (int8.multiplies, int8.additions, int8.memory_bits) == (600, 600, 2 * 8 * 150 / 2)
    assert int8.energy_j == 600 * 1 + 600 * 100 + 1200 * 10000
    assert (skipping.multiplies, skipping.memory_bits) == (275, (2 * (50 + 8 * 40) + 2 * (100 + 8 * 45)) / 2)
    assert (ours.multiplies, ours.level_multiplies, ours.additions) == (80, 20, 245)
    assert ours.comparisons == (3 * 400 + 100) / 2
    assert ours.memory_bits == pytest.approx((2 * 400 + 2 * 280) / 2)
    assert ours.energy_j == pytest.approx(80 + 20 * 10 + 245 * 100 + 650 * 1000 + 680 * 10000)


def test_a_value_that_two_layers_read_is_written_once_and_read_twice():
    twice = cost(readers=(FIRST, SECOND, SECOND), stored=(CODES,))
    assert twice.machines[0].memory_bits == 3 * 8 * 100 / 2


def test_clipped_codes_need_two_comparisons_and_saturated_ones_three():
    assert cost(mode="clip").machines[2].comparisons == (2 * 400 + 100) / 2
    assert cost(mode="saturate").machines[2].comparisons == (3 * 400 + 100) / 2


def test_the_body_is_json_with_sources():
    body = json.loads(json.dumps(cost(table=EnergyTable.load()).to_dict(), allow_nan=False))
    assert "Horowitz" in body["table"]["sources"]["multiply_int8_j"]
    assert body["readers"][1]["avoided"] == 0.95
    assert [m["name"] for m in body["machines"]] == ["int8", "int8, zeros skipped", "tri-segment"]
