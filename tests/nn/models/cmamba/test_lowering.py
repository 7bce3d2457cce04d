from dataclasses import replace

import numpy as np
import pytest

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir.qspec import QSpec, QTensor
from sparseflow.nn.models.cmamba.lowering import lower, parts_of, shifts_of, table_inputs
from tests.nn.models.cmamba.small import SMALL, arrays, spec, weights

BLOCK = "encoder.layers.0."


def test_every_layer_has_its_integers() -> None:
    found = arrays()
    for name, values in weights().items():
        if name.endswith("weight") and "norm" not in name:
            codes, scales = found[name], np.asarray(spec()[name].scales)
            assert codes.dtype == np.int8
            assert float(np.abs(codes * scales[:, None] - values).max()) <= scales.max() * 0.51  # type: ignore[operator]
    assert found["rsqrt.table"].dtype == np.uint16
    assert found["patch_embedding.position_embedding.pe"].shape == (SMALL.num_patches, SMALL.d_model)
    for name in found:
        if name.endswith(".multiplier") and name != "standardize.multiplier":
            assert found[name.replace("multiplier", "shift")].shape == found[name].shape
            assert name.replace("multiplier", "limit") in found


def test_the_same_gives_the_same() -> None:
    one, two = arrays(), arrays()
    assert list(one) == list(two)
    for name in one:
        assert one[name].tobytes() == two[name].tobytes()
        assert one[name].dtype == two[name].dtype


def test_tables_are_within_half_a_step_of_their_functions() -> None:
    """A7: SiLU and sigmoid err by half a step at most, exp by 2^-15."""
    found = arrays()
    x = table_inputs(spec()[f"{BLOCK}mixer.in_proj.x"])
    out = spec()[f"{BLOCK}mixer.act"]
    real = np.clip(x / (1 + np.exp(-x)) / out.step, -127, 127)
    assert float(np.abs(found[f"{BLOCK}mixer.act.table"] - real).max()) <= 0.5 + 1e-9
    gate = table_inputs(spec()[f"{BLOCK}GDDMLP.add_scale"])
    assert float(np.abs(found[f"{BLOCK}GDDMLP.gate.scale"] / 2**15 - 1 / (1 + np.exp(-gate))).max()) <= 2.0**-15
    delta = np.log1p(np.exp(table_inputs(spec()[f"{BLOCK}mixer.dt_proj"])))
    rate = np.exp(np.asarray(weights()[f"{BLOCK}mixer.A_log"])[0].astype(np.float64))
    exact = np.exp(-delta * rate[:, None])
    assert float(np.abs(found[f"{BLOCK}mixer.scan.decay"] / 2**15 - exact).max()) <= 2.0**-15
    step = spec()[f"{BLOCK}mixer.scan.delta"].step
    assert float(np.abs(found[f"{BLOCK}mixer.scan.delta"] - delta / step)[1:].max()) <= 0.5 + 1e-6


def test_no_sum_passes_32_bits() -> None:
    found = arrays()
    for name in found:
        if name.endswith(".weight"):
            bias = found.get(name.replace("weight", "bias"), np.zeros(1))
            assert int((np.abs(found[name].astype(np.int64)).sum(1) * 127 * 2 + np.abs(bias)).max()) < 2**31


def changed(name: str, tensor: QTensor) -> QSpec:
    return replace(spec(), tensors={**spec().tensors, name: tensor})


def test_scales_of_the_scan_that_are_not_tied_are_refused() -> None:
    h = spec()[f"{BLOCK}mixer.scan.h"]
    assert all(0 <= s <= 8 for s in shifts_of(spec(), BLOCK))
    for factor in (1.1, 2.0**-9, 2.0**9):
        wrong = changed(f"{BLOCK}mixer.scan.h", replace(h, scale=h.step * factor))
        with pytest.raises(ConfigError, match=r"scan\.h"):
            lower(SMALL, weights(), wrong)  # type: ignore[arg-type]


def test_scales_too_small_for_32_bits_are_refused_by_name() -> None:
    name = "head.linear.weight"
    tiny = replace(spec()[name], scale=tuple(1e-12 for _ in range(SMALL.forecast_len)))
    with pytest.raises(ConfigError, match=r"head\.linear"):
        lower(SMALL, weights(), changed(name, tiny))  # type: ignore[arg-type]
    few = replace(spec()[name], scale=(1.0, 1.0))
    with pytest.raises(ConfigError, match="8 outputs and 2 scales"):
        lower(SMALL, weights(), changed(name, few))  # type: ignore[arg-type]


def test_a_specification_of_another_network_is_refused() -> None:
    less = {k: v for k, v in spec().tensors.items() if k != f"{BLOCK}norm"}
    with pytest.raises(ConfigError, match="norm"):
        lower(SMALL, weights(), replace(spec(), tensors=less))  # type: ignore[arg-type]


def test_the_seed_variant_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="each channel"):
        lower(replace(SMALL, variant="seed"), weights(), spec())  # type: ignore[arg-type]


def test_parts_cover_the_results() -> None:
    assert parts_of(SMALL, "in_proj") == (("x", 16), ("z", 16))
    assert parts_of(SMALL, "x_proj") == (("delta", 4), ("b", 4), ("c", 4), ("d", 16))
