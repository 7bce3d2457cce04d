import numpy as np
import pytest
import torch

from sparseflow.hardware.layout.rectangles import comm_byte_mm, corner_excess_mm, outside_mm2, overlap_mm2


def dies(count, seed):
    rng = np.random.default_rng(seed)
    pos, sizes = rng.uniform(-60, 60, (count, 2)), rng.uniform(5, 40, (count, 2))
    return tuple(torch.as_tensor(x) for x in (pos, sizes[:, 0], sizes[:, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_overlap_is_the_sum_over_pairs(seed):
    pos, widths, heights = dies(7, seed)
    expected = 0.0
    for i in range(7):
        for j in range(i):
            ox = (widths[i] + widths[j]) / 2 + 0.5 - abs(pos[i, 0] - pos[j, 0])
            oy = (heights[i] + heights[j]) / 2 + 0.5 - abs(pos[i, 1] - pos[j, 1])
            expected += max(float(ox), 0) * max(float(oy), 0)
    assert overlap_mm2(pos, widths, heights, gap_mm=0.5).item() == pytest.approx(expected)


def test_touching_dies_do_not_overlap_but_lack_their_gap():
    pos = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    side = torch.tensor([10.0, 10.0])
    assert overlap_mm2(pos, side, side).item() == 0
    assert overlap_mm2(pos, side, side, gap_mm=0.5).item() == pytest.approx(0.5 * 10.5)


def test_what_a_circle_would_miss():
    # Circles of the same area keep clear of each other here, the squares do not.
    side = torch.tensor([20.0, 20.0])
    pos = torch.tensor([[0.0, 0.0], [17.0, 17.0]])
    assert 2 * np.sqrt(400 / np.pi) < np.hypot(17, 17)
    assert overlap_mm2(pos, side, side).item() == pytest.approx(9.0)
    # The corner of a 600 mm² square reaches 17.3 mm, its circle 13.8 mm.
    square = torch.tensor([600.0**0.5])
    at = torch.tensor([[100.0 - 13.9, 0.0]])
    assert corner_excess_mm(torch.zeros(1, 2), square, square, 17.0).item() == pytest.approx(0.32, abs=0.01)
    assert corner_excess_mm(at, square, square, 100.0).item() < 0


def test_a_die_without_area_takes_no_part():
    pos, none = torch.zeros(2, 2), torch.tensor([10.0, 0.0])
    assert overlap_mm2(pos, none, none, gap_mm=1.0).item() == 0


def test_outside_counts_each_corner():
    side = torch.tensor([2.0], dtype=torch.float64)
    at = torch.tensor([[10.0, 0.0]], dtype=torch.float64)
    expected = 2 * (np.hypot(11, 1) + 0.5 - 10) ** 2
    assert outside_mm2(at, side, side, 10.0, margin_mm=0.5).item() == pytest.approx(expected)
    assert outside_mm2(at, side, side, 12.0).item() == 0


def test_communication_is_traffic_times_distance():
    pos = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]], dtype=torch.float64)
    traffic = torch.tensor([[9.0, 2.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.0]], dtype=torch.float64)
    assert comm_byte_mm(pos, traffic).item() == pytest.approx(2 * 5 + 1 * 5 + 0.5 * 8, abs=1e-4)
    assert comm_byte_mm(pos.expand(4, 3, 2), traffic).shape == (4,)


def test_gradients_are_those_of_finite_differences():
    pos, widths, heights = dies(5, 3)
    traffic = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(pos, widths, heights):
        return (
            overlap_mm2(pos, widths, heights, gap_mm=0.5)
            + outside_mm2(pos, widths, heights, 50.0, margin_mm=1.0)
            + comm_byte_mm(pos, traffic)
        )

    operands = [x.requires_grad_() for x in (pos, widths, heights)]
    assert torch.autograd.gradcheck(loss, operands)
