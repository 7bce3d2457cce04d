"""Many candidates at once, with shared layers or without, give what the network gives one by one."""

from functools import partial

import pytest
import torch
from torch import Tensor

from sparseflow.compress.approximate import RELATIVE, sample_codes
from sparseflow.compress.approximate.candidates import CandidateNet
from sparseflow.compress.quantize import IntegerNet, find_sites, prepare_qat, to_integer
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import tables
from sparseflow.trace import capture
from tests.quantized_nets import NETS, net


def built(name: str) -> tuple[IntegerNet, tuple[str, ...], Tensor]:
    model, x = net(name, batch=5)
    found = to_integer(prepare_qat(model, x))
    return found, tuple(site.node for site in find_sites(capture(model, x))), x


def candidates(points: tuple[str, ...], count: int = 6) -> Tensor:
    """Return tables of configurations some of which begin alike, and two of which are one."""
    codes = sample_codes([40] * len(points), count, seed=1, masks=RELATIVE)
    codes[2, : len(points) // 2] = codes[1, : len(points) // 2]
    codes[4] = codes[3]
    return tables(codes)


def one_by_one(
    made: IntegerNet, points: tuple[str, ...], x: Tensor, rows: Tensor
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    outputs, taps = [], []
    for row in rows:
        seen: dict[str, Tensor] = {}
        edits = {p: partial(seen.setdefault, p) for p in points}
        outputs.append(made(x, edits=edits, tables=dict(zip(points, row[:, None], strict=True))))
        taps.append(seen)
    return torch.stack(outputs), taps


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize("share", [True, False])
def test_outputs_and_taps_equal_those_one_by_one(name: str, share: bool) -> None:
    made, points, x = built(name)
    rows = candidates(points)
    want, maps = one_by_one(made, points, x, rows)
    together = CandidateNet(made, points, taps=points, share=share)
    seen: dict[str, Tensor] = {}

    def tap(point: str, codes: Tensor, of_candidates: Tensor | None) -> None:
        each = codes.float().unflatten(0, (-1, len(x)))
        seen[point] = each if of_candidates is None else each[of_candidates]

    shared = together.begin(x)
    assert torch.equal(together.run(shared, rows, tap), want)
    assert list(seen) == list(points)
    for point in points:
        assert torch.equal(seen[point].expand(len(rows), *seen[point].shape[1:]), torch.stack([m[point] for m in maps]))
    alone = CandidateNet(made, points, share=share)
    assert torch.equal(alone.run(alone.begin(x), rows[:1]), want[:1])


def test_some_points_alone() -> None:
    made, points, x = built("residual")
    rows = candidates(points)
    some = points[1::2]
    together = CandidateNet(made, some)
    got = together.run(together.begin(x), rows[:, 1::2].contiguous())
    want = torch.stack([made(x, tables=dict(zip(some, row[1::2, None], strict=True))) for row in rows])
    assert torch.equal(got, want)


def test_candidates_that_begin_alike_share_their_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    made, points, x = built("lenet")
    rows = tables(sample_codes([40] * len(points), 1, seed=0)).repeat(8, 1, 1)
    rows[:, -1] = tables(sample_codes([40], 8, seed=1))[:, 0]
    together = CandidateNet(made, points)
    shared = together.begin(x)
    images: list[int] = []
    inner = dict(together._calls)
    for name in made.layers:
        together._calls[name] = lambda codes, name=name: (images.append(len(codes)), inner[name](codes))[1]
    together.run(shared, rows)
    assert images == [len(x), len(x), 8 * len(x)]


def test_bad_points_and_tables() -> None:
    made, points, x = built("chain")
    with pytest.raises(ConfigError, match="in the order of the network"):
        CandidateNet(made, points[::-1])
    with pytest.raises(ConfigError, match="has no point"):
        CandidateNet(made, (*points, "nowhere"))
    together = CandidateNet(made, points)
    with pytest.raises(ConfigError, match="expected uint8"):
        together.run(together.begin(x), torch.zeros(2, 1, 256))
