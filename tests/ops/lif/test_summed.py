"""Adding and spiking in one pass gives what both give one after the other."""

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.ops.lif import LIFParams, add_lif_pack, reference
from tests.ops.lif.test_reference import NEURONS

triton = pytest.importorskip("sparseflow.ops.lif.triton", reason="needs triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 33, 9, 9), (3, 64, 1, 1), (2, 100, 3, 2), (2, 40, 7, 1), (0, 4, 2, 2)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def pair(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(len(shape) + shape[1])
    return [torch.randn(shape, generator=g).to(DEVICE, dtype).contiguous(memory_format=layout) for _ in range(2)]


@pytest.mark.parametrize("params", NEURONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_equals_the_two_steps(params: LIFParams, dtype: torch.dtype) -> None:
    for i, (n, *rest) in enumerate(SHAPES):
        x, y = pair((3 * n, *rest), dtype, LAYOUTS[i % 2])
        words, z = add_lif_pack(x, y, params, steps=3)
        assert torch.equal(z, x + y)
        assert z.stride() == (x + y).stride()
        want = reference.lif_pack(z.float(), params, steps=3)[0]
        assert torch.equal(words, want)
        made, total = torch.full_like(want, 0x5A5A5A5A), torch.full_like(z, torch.nan)
        triton.add_lif_pack(x, y, params, 3, made, total)
        assert torch.equal(total, z)
        assert torch.equal(made, want)


@pytest.mark.parametrize("steps", [1, 2, 16])
def test_layouts_that_differ(steps: int) -> None:
    x, y = pair((2 * steps, 40, 3, 3), torch.float16, torch.channels_last)
    words, z = add_lif_pack(x, y.contiguous(), LIFParams(), steps=steps)
    assert torch.equal(z, x + y)
    assert torch.equal(words, add_lif_pack(x, y, LIFParams(), steps=steps)[0])
    torch.library.opcheck(
        torch.ops.sparseflow.add_lif_pack.default, (x.cpu(), y.cpu(), steps, 2.0, 1.0, 0.0, True, True)
    )


def test_what_does_not_fit_is_refused() -> None:
    x = torch.ones(4, 2, 1, 1)
    for y, steps in ((x[:2], 2), (x.half(), 2), (x, 3), (x, 0)):
        with pytest.raises(ConfigError, match="add_lif_pack"):
            add_lif_pack(x, y, LIFParams(), steps=steps)
    with pytest.raises(ConfigError, match="expected"):
        add_lif_pack(x[0], x[0], LIFParams(), steps=1)
