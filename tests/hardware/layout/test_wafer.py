import numpy as np
import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.hardware.layout import DescendConfig, WaferLayout
from sparseflow.recipes.codesign.layout_instances import random_dies

QUICK = DescendConfig(steps=40, restarts=4, polish_steps=100)
KEYS = ("widths_mm", "heights_mm", "traffic_bytes", "power_w")


def operands(count=8, seed=0, **more):
    problem = random_dies(seed, dies=count, largest_mm2=400.0, **more)
    return [problem.tensor(key) for key in KEYS]


def test_it_starts_where_dies_have_a_gradient():
    layout = WaferLayout(slots=8)
    terms = layout.loss(*operands())
    (slope,) = torch.autograd.grad(terms["comm"], layout.pos_mm)
    assert slope.abs().min() > 0
    assert terms["overlap"] == terms["boundary"] == 0


def test_dies_at_one_point_would_never_part():
    layout = WaferLayout(slots=8)
    with torch.no_grad():
        layout.pos_mm.zero_()
    terms = layout.loss(*operands())
    (slope,) = torch.autograd.grad(terms["overlap"], layout.pos_mm)
    assert terms["overlap"] > 0
    assert slope.abs().max() == 0


def test_terms_have_gradients_to_positions_and_sizes():
    layout = WaferLayout(slots=4, radius_mm=40.0, t_limit_c=30.0)
    ops = [x.requires_grad_() for x in operands(4)]
    with torch.no_grad():
        layout.pos_mm.copy_(torch.tensor([[0.0, 0.0], [9.0, 4.0], [-8.0, 3.0], [35.0, 1.0]]))
    terms = layout.loss(*ops)
    assert all(float(term.detach()) > 0 for term in terms.values())
    sum(terms.values()).backward()
    assert all(x.grad.abs().sum() > 0 for x in (layout.pos_mm, *ops))


def test_optimised_is_legal_and_closer_than_the_grid():
    ops = operands(8)
    layout = WaferLayout(slots=8)
    grid = WaferLayout(slots=8, optimize_layout=False).optimize(*ops)
    found = layout.optimize(*ops, config=QUICK)
    assert found.legal
    assert grid.legal
    assert found.comm_byte_mm < 0.85 * grid.comm_byte_mm
    np.testing.assert_array_equal(found.pos_mm, layout.pos_mm.detach().numpy())


def test_optimising_again_is_never_worse():
    ops = operands(6, 3)
    layout = WaferLayout(slots=6)
    first = layout.optimize(*ops, config=QUICK)
    again = layout.optimize(*ops, config=DescendConfig(steps=2, restarts=1, polish_steps=0, seed=9))
    assert again.cost <= first.cost


def test_a_fixed_layout_is_the_grid_and_has_no_loss():
    ops = operands(5)
    layout = WaferLayout(slots=5, optimize_layout=False)
    result = layout.optimize(*ops)
    np.testing.assert_allclose(result.pos_mm, layout.grid(*ops[:2]).numpy())
    assert set(layout.loss(*ops)) == {"boundary", "overlap", "comm", "thermal"}
    assert all(float(term) == 0 for term in layout.loss(*ops).values())
    assert not layout.pos_mm.requires_grad


def test_empty_slots_take_no_place():
    ops = operands(6, 1)
    for k in (0, 1, 3):
        ops[k] = ops[k].clone()
        ops[k][2] = 0
    ops[2] = ops[2].clone()
    ops[2][2], ops[2][:, 2] = 0, 0
    result = WaferLayout(slots=6).optimize(*ops, config=QUICK)
    assert result.legal
    none = WaferLayout(slots=6).optimize(*(x * 0 for x in ops), config=QUICK)
    assert (none.cost, none.outside, none.t_max_c) == (0, 0, 25)


def test_legalise_mends_the_parameter():
    layout = WaferLayout(slots=5)
    ops = operands(5)
    with torch.no_grad():
        layout.pos_mm.zero_()
    assert not layout.result(*ops).legal
    layout.legalise(ops[0], ops[1])
    assert layout.result(*ops).legal


def test_what_no_grid_holds_may_still_be_placed():
    # One long die makes the cells of a grid too large.
    ops = operands(6)
    ops[0], ops[1] = ops[0].clone(), ops[1].clone()
    ops[0][0], ops[1][1] = 75.0, 75.0
    layout = WaferLayout(slots=6, radius_mm=60.0)
    with pytest.raises(ConfigError):
        layout.grid(ops[0], ops[1])
    assert layout.optimize(*ops, config=QUICK).legal


def test_faults_are_named():
    for bad in ({"slots": 0}, {"margin_mm": 150.0}, {"gap_mm": -1.0}):
        with pytest.raises(ConfigError, match="no such wafer"):
            WaferLayout(**bad)
    with pytest.raises(ConfigError, match="shape"):
        WaferLayout(slots=3).optimize(*operands(3)[:3], torch.zeros(2))
    with pytest.raises(UnsupportedError, match="do not fit"):
        WaferLayout(slots=8, radius_mm=30.0).optimize(*operands(8))
