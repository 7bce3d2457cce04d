import dataclasses
import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.nn.models.cmamba.args import ModelArgs

SEED = {
    "d_model": 128, "n_layer": 4, "seq_len": 96, "d_state": 16, "expand": 2, "d_conv": 4, "pad_multiple": 8,
    "conv_bias": True, "bias": False, "num_channels": 24, "patch_len": 16, "stride": 8, "forecast_len": 96,
    "reduction_ratio": 8, "verbose": False,
}  # fmt: skip


@pytest.mark.parametrize("variant", ["official", "seed"])
def test_the_fields_of_the_first_design_keep_their_defaults(variant: str) -> None:
    args = ModelArgs(variant=variant)
    assert {name: getattr(args, name) for name in SEED} == SEED
    assert (args.dt_rank, args.d_inner) == (8, 256)


def test_what_differs_by_variant() -> None:
    official, seed = ModelArgs(), ModelArgs(variant="seed")
    assert official.variant == "official"
    assert (official.num_patches, official.padding, official.eps) == (12, 8, 1e-5)
    assert (seed.num_patches, seed.padding, seed.eps) == (11, 0, 1e-6)


def test_the_sizes_of_the_paper() -> None:
    args = ModelArgs.paper(7)
    assert (args.d_model, args.d_inner, args.d_state, args.rank, args.n_layer) == (128, 128, 16, 32, 3)
    assert (args.num_patches, args.reduction_ratio, args.bias) == (12, 2, True)
    assert ModelArgs.paper(21, 720, n_layer=4, dropout=0.1).forecast_len == 720


def test_auto_rank_rounds_up() -> None:
    assert ModelArgs(d_model=17).dt_rank == 2


@pytest.mark.parametrize(("length", "padded"), [(1, 8), (8, 8), (90, 96), (96, 96), (97, 104)])
def test_the_forecast_stays_as_long_as_asked(length: int, padded: int) -> None:
    args = ModelArgs(forecast_len=length)
    assert (args.forecast_len, args.padded_forecast_len) == (length, padded)


@pytest.mark.parametrize("args", [ModelArgs(), ModelArgs(variant="seed", dt_rank=3), ModelArgs.paper(321, 720)])
def test_json_round_trip(args: ModelArgs) -> None:
    assert ModelArgs.from_dict(json.loads(json.dumps(args.to_dict()))) == args
    assert dataclasses.replace(args, dropout=0.5).dropout == 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 0), ("n_layer", -1), ("seq_len", 1.5), ("d_state", True), ("d_conv", 0), ("pad_multiple", 0),
        ("num_channels", "7"), ("patch_len", 105), ("stride", 0), ("forecast_len", 0), ("reduction_ratio", 0),
        ("expand", 0.001), ("expand", float("nan")), ("expand", True), ("dt_rank", "big"), ("dt_rank", 0),
        ("bias", 1), ("conv_bias", None), ("dropout", 1.0), ("head_dropout", -0.1), ("forecast_dropout", "x"),
        ("variant", "slim"), ("norm_eps", 0.0), ("norm_eps", "small"),
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        ModelArgs.from_dict({field: value})


def test_the_longest_patch_is_the_padded_series() -> None:
    assert ModelArgs(patch_len=104).num_patches == 1
    with pytest.raises(ConfigError, match="patch_len is 97"):
        ModelArgs(variant="seed", patch_len=97)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ConfigError, match="colour"):
        ModelArgs.from_dict({"colour": 1})
