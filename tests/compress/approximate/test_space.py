"""Configurations as parameters, and back; the members are exactly what the masks allow."""

import random

import pytest
import torch

from sparseflow.compress.approximate.codes import MASKS, RELATIVE, SEED, Masks, initial_codes, sample_codes
from sparseflow.compress.approximate.dp import optimal_codes, segment_error
from sparseflow.compress.approximate.space import CodeSpace
from sparseflow.errors import ConfigError
from sparseflow.search import Budget, Evolution, Params, run


def every(tmax: int) -> torch.Tensor:
    axis = torch.arange(tmax + 1)
    return torch.cat((torch.cartesian_prod(axis, axis, axis, axis), torch.full((len(axis) ** 4, 1), tmax)), 1)


@pytest.mark.parametrize(("masks", "tmax"), [(RELATIVE, 2), (RELATIVE, 7), (SEED, 7), (SEED, 9), (SEED, 12)])
def test_members_are_what_the_masks_allow(masks: Masks, tmax: int) -> None:
    space = CodeSpace(names=("a",), tmax=(tmax,), masks=masks)
    found = {tuple(space.codes([p])[0, 0].tolist()) for p in space.space.enumerate()}
    codes = every(tmax)
    assert found == {tuple(row) for row in codes[masks.holds(codes)].tolist()}


def test_members_with_a_free_tmax() -> None:
    space = CodeSpace(names=("a",), tmax=(9,), masks=SEED, reach=2)
    found = {tuple(space.codes([p])[0, 0].tolist()) for p in space.space.enumerate()}
    want = set()
    for tmax in range(7, 12):
        codes = every(tmax)
        want |= {tuple(row) for row in codes[SEED.holds(codes)].tolist()}
    assert found == want


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("reach", [0, 6])
def test_there_and_back(masks: Masks, reach: int) -> None:
    space = CodeSpace(names=("conv1", "fc1"), tmax=(35, 15), masks=masks, reach=reach)
    codes = sample_codes([35, 15], 20, seed=0, masks=masks)
    members = [space.params(one) for one in codes]
    for member in members:
        space.space.check(member)
    assert torch.equal(space.codes(members), codes)
    drawn = space.space.sample(random.Random(0))
    assert space.params(space.codes([drawn])[0]) == drawn
    assert list(drawn) == [p.name for p in space.space.parameters]
    assert len(drawn) == (10 if reach else 8)


def test_tmax_stays_among_the_codes_there_are() -> None:
    space = CodeSpace(names=("a", "b"), tmax=(120, 5), reach=20)
    tops = [p for p in space.space.parameters if p.name.endswith("tmax")]
    assert [(p.values()[0], p.values()[-1]) for p in tops] == [(100, 127), (2, 25)]


def test_no_members() -> None:
    assert CodeSpace(names=("a", "b"), tmax=(35, 35)).codes([]).shape == (0, 2, 5)


def test_what_does_not_fit_is_named() -> None:
    space = CodeSpace(names=("a",), tmax=(35,), masks=SEED)
    with pytest.raises(ConfigError, match="site 'a': tmax is 34; the space has 35 to 35"):
        space.params(torch.tensor([[7, 14, 21, 28, 34]]))
    with pytest.raises(ConfigError, match="site a: t1 is 12"):
        space.params(torch.tensor([[12, 18, 24, 29, 35]]))
    with pytest.raises(ConfigError, match="configuration 0, site a: v1 is -1"):
        space.codes([{"a.t1": 7, "a.t2": 21, "a.v2": 28}])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ("a", "b"), "tmax": (35,)}, "1 values of tmax for the sites a, b"),
        ({"names": ("a", "a"), "tmax": (35, 35)}, "give one a site"),
        ({"names": (), "tmax": ()}, "give one a site"),
        ({"names": ("a",), "tmax": (6,), "masks": SEED}, "site 'a': tmax is 6; masks 'seed' need 7 to 255"),
        ({"names": ("a",), "tmax": (35,), "reach": -1}, "reach of tmax is -1"),
    ],
)
def test_fields_are_checked(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CodeSpace(**fields)


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_a_search_comes_near_the_exact_optimum_and_never_below_it(masks: Masks) -> None:
    histogram = (torch.exp(-torch.arange(256) / torch.tensor([[6.0], [15.0]])) * 1e4).long()
    best = optimal_codes(histogram, tmax=[15, 35], masks=masks)
    known = CodeSpace(names=("conv1", "fc1"), tmax=(15, 35), masks=masks)

    def lost(params: Params) -> float:
        return float(segment_error(histogram, known.codes([params])).sum())

    optimum, first = float(best.error.sum()), known.params(initial_codes([15, 35], masks=masks))
    found = run(Evolution(known.space, seed=0), lost, Budget(trials=400), baseline=first, progress=False)
    assert found.score is not None
    assert optimum <= found.score.value <= 1.2 * optimum
    from_dp = run(
        Evolution(known.space, seed=0), lost, Budget(trials=40), baseline=known.params(best.codes), progress=False
    )
    assert from_dp.best == known.params(best.codes)
