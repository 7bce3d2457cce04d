"""Masks against the table of ranges, line by line; validity; first guesses; draws."""

import pytest
import torch

from sparseflow.compress.approximate.codes import (
    MASKS,
    RELATIVE,
    SEED,
    Masks,
    check_codes,
    clamp_codes,
    initial_codes,
    masks_named,
    sample_codes,
)
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import tables


def by_the_table(tmax: int) -> set[tuple[int, ...]]:
    """Every choice of the seed's policy, in the words of its table."""
    out = set()
    for t1 in range(2, min(10, max(2, tmax - 8)) + 1):
        for t2 in range(t1 + 4, max(t1 + 4, tmax - 4) + 1):
            for v1 in range(t1 + 1, max(t1 + 1, t2 - 1) + 1):
                out |= {(t1, v1, t2, v2, tmax) for v2 in range(t2 + 1, tmax + 1)}
    return out


def every(tmax: int) -> torch.Tensor:
    """All t1, v1, t2, v2 of 0 to tmax + 1."""
    axis = torch.arange(tmax + 2)
    return torch.cat((torch.cartesian_prod(axis, axis, axis, axis), torch.full((len(axis) ** 4, 1), tmax)), 1)


@pytest.mark.parametrize("tmax", [7, 8, 9, 10, 11, 15])
def test_seed_masks_are_the_seeds_table(tmax: int) -> None:
    codes = every(tmax)
    assert {tuple(row) for row in codes[SEED.holds(codes)].tolist()} == by_the_table(tmax)


def test_size_of_the_seeds_space() -> None:
    assert len(by_the_table(35)) == 31_629
    rows = torch.tensor(sorted(by_the_table(35)))
    assert bool(SEED.holds(rows).all())
    assert bool(RELATIVE.holds(rows).all())


@pytest.mark.parametrize("tmax", [2, 3, 6, 11])
def test_relative_masks_are_the_order_alone(tmax: int) -> None:
    codes = every(tmax)
    t1, v1, t2, v2, top = codes.unbind(1)
    assert torch.equal(RELATIVE.holds(codes), (t1 < v1) & (v1 <= t2) & (t2 < v2) & (v2 <= top))


def test_tables_take_all_that_masks_allow() -> None:
    codes = sample_codes([15, 35, 127, 255], 50, seed=0)
    assert tables(codes).shape == (50, 4, 256)
    assert bool((tables(codes).int().diff(dim=-1) >= 0).all())


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("top", [15, 35, 127, 255])
def test_draws_are_valid_repeat_and_reach_the_ends(masks: Masks, top: int) -> None:
    codes = sample_codes([top, 15], 400, seed=3, masks=masks)
    assert codes.shape == (400, 2, 5)
    assert codes.dtype == torch.int64
    assert bool(masks.holds(codes).all())
    assert torch.equal(codes, sample_codes([top, 15], 400, seed=3, masks=masks))
    assert not torch.equal(codes, sample_codes([top, 15], 400, seed=4, masks=masks))
    assert int(codes[:, 1, 0].min()) == masks.t1_low
    assert int(codes[:, 1, 3].max()) == 15


def test_no_draws() -> None:
    assert sample_codes([35], 0, seed=0).shape == (0, 1, 5)
    assert sample_codes([], 3, seed=0).shape == (3, 0, 5)


def test_clamped_codes_are_valid_and_valid_codes_stay() -> None:
    codes = torch.randint(-9, 300, (500, 5), generator=torch.Generator().manual_seed(0))
    codes[:, 4] = 15 + codes[:, 4].abs() % 200
    for masks in MASKS.values():
        clamped = clamp_codes(codes, masks=masks)
        assert bool(masks.holds(clamped).all())
        assert torch.equal(clamp_codes(clamped, masks=masks), clamped)
        assert torch.equal(clamped[:, 4], codes[:, 4])


@pytest.mark.parametrize(
    ("tmax", "want"),
    [(35, (7, 14, 21, 28)), (45, (9, 18, 27, 36)), (40, (8, 16, 24, 32)), (30, (6, 12, 18, 24)), (17, (3, 6, 10, 13))],
)
def test_initial_codes_of_the_document(tmax: int, want: tuple[int, ...]) -> None:
    assert initial_codes([tmax], masks=None).tolist() == [[*want, tmax]]


@pytest.mark.parametrize(
    ("tmax", "want"), [(35, (12, 18, 24, 29)), (15, (5, 7, 10, 12)), (10, (2, 4, 6, 8)), (90, (31, 47, 63, 76))]
)
def test_initial_codes_of_the_program(tmax: int, want: tuple[int, ...]) -> None:
    assert initial_codes([tmax], rule="code", masks=None).tolist() == [[*want, tmax]]


@pytest.mark.parametrize("rule", ["document", "code"])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_initial_codes_are_inside_their_masks(rule: str, masks: Masks) -> None:
    tmax = torch.arange(15, 256)
    assert bool(masks.holds(initial_codes(tmax, rule=rule, masks=masks)).all())
    if masks is RELATIVE:
        assert torch.equal(initial_codes(tmax, rule=rule), initial_codes(tmax, rule=rule, masks=None))


def test_no_such_rule_or_masks() -> None:
    with pytest.raises(ConfigError, match="'half'; expected one of document, code"):
        initial_codes([35], rule="half")
    with pytest.raises(ConfigError, match="'free'; expected one of relative, seed"):
        masks_named("free")
    assert masks_named("seed") is SEED


def test_masks_that_leave_nothing() -> None:
    with pytest.raises(ConfigError, match="masks 'flat' leave nothing to choose"):
        Masks(name="flat", t1_low=2, t1_high=1, gap=4, inset=1)
    with pytest.raises(ConfigError, match="tmax runs from 6 to 35; masks 'seed' need 7 to 255"):
        initial_codes([6, 35], masks=SEED)
    with pytest.raises(ConfigError, match="tmax runs from 35 to 256"):
        sample_codes([35, 256], 1, seed=0)


GOOD = (7, 14, 21, 28, 35)


@pytest.mark.parametrize(
    ("row", "masks", "message"),
    [
        ((12, 18, 24, 29, 35), SEED, r"site fc1: t1 is 12; masks 'seed' allow 2 to 10 there"),
        ((7, 14, 10, 28, 35), SEED, r"site fc1: t2 is 10; masks 'seed' allow 11 to 31 there"),
        ((7, 21, 21, 28, 35), SEED, r"site fc1: v1 is 21; masks 'seed' allow 8 to 20 there"),
        ((7, 14, 21, 36, 35), RELATIVE, r"site fc1: v2 is 36; masks 'relative' allow 22 to 35 there"),
        ((7, 14, 21, 28, 256), RELATIVE, r"site fc1: tmax is 256; masks 'relative' allow 2 to 255 there"),
        ((-1, 14, 21, 28, 35), RELATIVE, r"site fc1: t1 is -1; masks 'relative' allow 0 to 33 there"),
    ],
)
def test_a_wrong_code_is_named(row: tuple[int, ...], masks: Masks, message: str) -> None:
    codes = torch.tensor([GOOD, row])
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_codes(codes, masks=masks, names=["conv1", "fc1"])
    with pytest.raises(ConfigError, match=r"^configuration 1, site fc1: "):
        check_codes(torch.stack([torch.tensor([GOOD, GOOD]), codes]), masks=masks, names=["conv1", "fc1"])
    with pytest.raises(ConfigError, match=r"^site 1: "):
        check_codes(codes, masks=masks)


def test_codes_of_another_kind() -> None:
    good = torch.tensor([GOOD])
    assert check_codes(good, masks=SEED) is good
    with pytest.raises(ConfigError, match=r"codes are torch.float32 \(1, 5\); expected int64"):
        check_codes(good.float())
    with pytest.raises(ConfigError, match=r"\(1, 4\)"):
        check_codes(good[:, :4])
    with pytest.raises(ConfigError, match="codes are for 1 sites; there are 2: a, b"):
        check_codes(good, names=["a", "b"])
