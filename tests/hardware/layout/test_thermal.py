import math

import pytest
import torch
from scipy.special import k0

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout.thermal import Plate


def die(width, height, power):
    return tuple(torch.tensor([x], dtype=torch.float64) for x in (width, height, power))


ORIGIN = torch.zeros(1, 2, dtype=torch.float64)


@pytest.mark.parametrize("distance_mm", [2.0, 10.0, 30.0])
def test_a_small_die_spreads_as_the_kernel_of_a_plate(distance_mm):
    plate = Plate()
    sheet = plate.conductivity_w_per_m_k * plate.thickness_mm * 1e-3
    point = torch.tensor([[0.0, distance_mm]], dtype=torch.float64)
    rise = plate.rise_k(point, ORIGIN, *die(0.5, 0.5, 7.0), edge=False)
    assert rise.item() == pytest.approx(7.0 * k0(distance_mm / plate.length_mm) / (2 * math.pi * sheet), rel=5e-3)


def test_a_die_as_large_as_the_plate_is_as_hot_as_its_coolant_allows():
    plate = Plate()
    rise = plate.rise_k(ORIGIN, ORIGIN, *die(1e3, 1e3, 1e4), edge=False)
    assert rise.item() == pytest.approx(1e4 / plate.cooling_w_per_m2_k, rel=1e-6)


def test_an_edge_sends_the_heat_back():
    plate = Plate()
    rim = torch.tensor([[plate.radius_mm, 0.0]], dtype=torch.float64)
    near = torch.tensor([[plate.radius_mm - 6.0, 0.0]], dtype=torch.float64)
    open_end = plate.rise_k(rim, near, *die(10.0, 10.0, 50.0), edge=False)
    assert plate.rise_k(rim, near, *die(10.0, 10.0, 50.0)).item() == pytest.approx(2 * open_end.item())


def test_the_middle_has_no_near_rim():
    plate = Plate()
    one = die(10.0, 10.0, 50.0)
    assert plate.rise_k(ORIGIN, ORIGIN, *one).item() == pytest.approx(
        plate.rise_k(ORIGIN, ORIGIN, *one, edge=False).item(), rel=1e-6
    )


def test_heat_adds_up_and_dies_without_area_give_none():
    plate = Plate()
    pos = torch.tensor([[0.0, 0.0], [30.0, 5.0], [9.0, 9.0]], dtype=torch.float64)
    widths = torch.tensor([20.0, 15.0, 0.0], dtype=torch.float64)
    power = torch.tensor([100.0, 60.0, 5.0], dtype=torch.float64)
    both = plate.rise_k(pos, pos, widths, widths, power)
    alone = sum(
        plate.rise_k(pos, pos[k : k + 1], widths[k : k + 1], widths[k : k + 1], power[k : k + 1]) for k in (0, 1)
    )
    torch.testing.assert_close(both, alone)


def test_the_hottest_point_of_one_die_is_its_middle():
    plate = Plate()
    sizes = die(20.0, 20.0, 200.0)
    centre = plate.ambient_c + plate.rise_k(ORIGIN, ORIGIN, *sizes).item()
    assert plate.t_max_c(ORIGIN, *sizes).item() == pytest.approx(centre)
    probes = plate.probes_mm(ORIGIN, sizes[0], sizes[1])
    assert probes.shape == (9, 2)
    assert probes.abs().max() < 10


def test_sixteen_hot_dies_at_one_point_are_too_hot():
    # The literal formula of the study says 81 °C here, and never exceeds a limit of 85.
    pos = torch.zeros(16, 2, dtype=torch.float64)
    side = torch.full((16,), 600.0**0.5, dtype=torch.float64)
    power = torch.full((16,), 350.0, dtype=torch.float64)
    assert Plate().t_max_c(pos, side, side, power).item() > 400


def test_gradients_are_those_of_finite_differences():
    plate = Plate()
    pos = torch.tensor([[0.0, 0.0], [22.0, 7.0]], dtype=torch.float64, requires_grad=True)
    sizes = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([20.0, 15.0], [9.0, 12.0], [90.0, 50.0])
    ]
    assert torch.autograd.gradcheck(lambda p, w, h, q: plate.rise_k(p, p, w, h, q), [pos, *sizes])


@pytest.mark.parametrize("key", ["conductivity_w_per_m_k", "thickness_mm", "cooling_w_per_m2_k", "radius_mm"])
def test_a_plate_that_cannot_be_is_refused(key):
    with pytest.raises(ConfigError, match=key):
        Plate(**{key: 0.0})
    with pytest.raises(ConfigError, match="ambient_c"):
        Plate(ambient_c=math.nan)
