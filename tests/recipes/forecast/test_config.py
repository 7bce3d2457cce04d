import json
from pathlib import Path

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.forecast import ForecastConfig
from sparseflow.recipes.settings import read_settings

CONFIGS = Path(__file__).parents[3] / "configs"
HORIZONS = (96, 192, 336, 720)
# arXiv 2406.05316: layers, learning rate, dropout, sigma by horizon; hidden ratio; windows a step; patience.
PAPER = {
    "etth1": ((3, 2, 3, 3), (5e-4,) * 4, (0.1,) * 4, (1,) * 4, 2, 64, 3),
    "etth2": ((4, 4, 3, 3), (1e-4, 1e-4, 5e-4, 1e-4), (0.1,) * 4, (1, 1, 3, 3), 2, 64, 3),
    "ettm1": ((4,) * 4, (5e-4, 5e-4, 1e-3, 1e-3), (0,) * 4, (1,) * 4, 2, 64, 3),
    "ettm2": ((4, 4, 3, 3), (1e-3, 1e-3, 1e-3, 1e-4), (0, 0, 0.1, 0), (1,) * 4, 2, 64, 3),
    "weather": ((3,) * 4, (1e-3, 1e-4, 1e-3, 1e-4), (0,) * 4, (0.1,) * 4, 2, 64, 3),
    "electricity": ((5,) * 4, (1e-3, 1e-3, 5e-4, 5e-4), (0,) * 4, (1,) * 4, 4, 8, 3),
    "traffic": ((4,) * 4, (1e-3, 2e-3, 2e-3, 2e-3), (0,) * 4, (4, 1, 3, 1), 8, 8, 5),
}

# Settings that keep the mean of the weights, as val prefers it there (docs/guide/forecast.md).
AVERAGED = ("etth1", "etth2", "ettm1")


@pytest.mark.parametrize("name", PAPER)
def test_files_hold_the_published_settings(name):
    layers, rates, dropouts, sigmas, ratio, batch, patience = PAPER[name]
    for i, horizon in enumerate(HORIZONS):
        more = {} if name.startswith("ett") else {"data": f"{name}.csv"}
        config = read_settings(ForecastConfig, CONFIGS / f"cmamba_{name}_{horizon}.yaml", **more)
        args = config.network(7)
        assert (config.forecast_len, config.seq_len, config.lr, config.sigma) == (horizon, 96, rates[i], sigmas[i])
        assert (config.batch_size, config.patience, config.epochs, config.seed) == (batch, patience, 100, 2021)
        assert (args.n_layer, args.dropout, args.head_dropout) == (layers[i], dropouts[i], dropouts[i])
        assert args.forecast_dropout == dropouts[i]
        assert (args.reduction_ratio, args.d_model, args.d_inner, args.d_state) == (ratio, 128, 128, 16)
        assert (args.patch_len, args.stride, args.num_patches, args.forecast_len) == (16, 8, 12, horizon)
        assert config.dataset.lower() == ("csv" if more else name)
        assert config.ema == (0.995 if name in AVERAGED else 0.0)


def test_every_file_is_in_the_table():
    found = {p.stem.removeprefix("cmamba_") for p in CONFIGS.glob("cmamba_*.yaml")}
    assert found == {f"{name}_{horizon}" for name in PAPER for horizon in HORIZONS}


def test_the_defaults_are_those_of_the_first_file():
    file = read_settings(ForecastConfig, CONFIGS / "cmamba_etth1_96.yaml")
    assert file.network(7) == ForecastConfig().network(7)
    # But for the mean of the weights, which lags behind where an epoch has few steps.
    assert {**file.to_dict(), "model_args": {}, "ema": 0.0} == ForecastConfig().to_dict()


def test_the_seed_variant_keeps_its_own_sizes():
    args = ForecastConfig(variant="seed").network(7)
    assert (args.variant, args.n_layer, args.expand, args.dropout, args.num_channels) == ("seed", 4, 2, 0.0, 7)


def test_rates_fall_after_the_third_epoch_was_done():
    config = ForecastConfig(lr=2.0)
    assert [config.rate(e) for e in range(3)] == [2.0, 2.0, 2.0]
    # Set after epoch e, counted from 1: 0.9^(e - 3); the epoch of index i is trained at what was set after i epochs.
    for i in range(3, 9):
        assert config.rate(i) == pytest.approx(2.0 * 0.9 ** (i - 3))


def test_json_gives_the_settings_back(tmp_path):
    config = ForecastConfig(
        dataset="csv", data="x.csv", columns=("a", "b"), targets=("b",), model_args={"d_model": 8}, missing=-9.0
    )
    assert ForecastConfig.from_dict(json.loads(json.dumps(config.to_dict(all=True)))) == config
    longer = ForecastConfig.from_dict(config.to_dict(all=True) | {"epochs": 7, "out": "y", "device": "cpu"})
    assert longer.to_dict() == config.to_dict()


def test_runs_have_names_of_their_own():
    assert ForecastConfig().folder == Path("outputs/forecast/ETTh1_96_official_seed2021")
    config = ForecastConfig(dataset="csv", data="a/load.csv", forecast_len=24, seed=3, out="o", variant="seed")
    assert config.folder == Path("o/load_24_seed_seed3")


@pytest.mark.parametrize(
    "bad",
    [
        {"dataset": "ETTx"}, {"dataset": "csv"}, {"dataset": "npz"}, {"variant": "slim"}, {"precision": "int8"},
        {"device": "tpu"}, {"seq_len": 0}, {"forecast_len": 0}, {"epochs": 0}, {"patience": 0}, {"batch_size": 0},
        {"eval_batch": 0}, {"train_limit": 0}, {"steady": -1}, {"sigma": -1.0}, {"sigma": float("nan")}, {"lr": 0.0},
        {"ema": 1.0}, {"ema": -0.1}, {"decay": 0.0}, {"decay": 1.1}, {"train_share": 1.0}, {"test_share": 0.0},
        {"model_args": {"num_channels": 3}}, {"model_args": {"variant": "seed"}},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ForecastConfig(**bad)


def test_settings_of_the_network_are_checked():
    with pytest.raises(ConfigError, match="width"):
        ForecastConfig(model_args={"width": 3}).network(7)


def test_settings_of_other_series_ask_for_their_file():
    with pytest.raises(ConfigError, match=r"cmamba_weather_96\.yaml.*--csv FILE"):
        read_settings(ForecastConfig, CONFIGS / "cmamba_weather_96.yaml")


def test_the_forecast_is_dropped_as_published_unless_told():
    assert ForecastConfig().network(7).forecast_dropout == 0.1
    assert ForecastConfig(model_args={"head_dropout": 0.3}).network(7).forecast_dropout == 0.3
    assert ForecastConfig(model_args={"forecast_dropout": 0.0}).network(7).forecast_dropout == 0.0
    assert ForecastConfig(variant="seed").network(7).forecast_dropout == 0.0
