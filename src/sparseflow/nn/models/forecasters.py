"""Forecasters by name, at the sizes that were published."""

from sparseflow.nn.models.cmamba import CMamba, ModelArgs, build_model

__all__ = ["cmamba"]


def cmamba(
    num_channels: int = 7, forecast_len: int = 96, seq_len: int = 96, n_layer: int = 3, d_model: int = 128
) -> CMamba:
    """Build CMamba with fresh weights: `[B, V, L]` → `[B, V, F]`.

    Args:
        num_channels: series V.
        forecast_len: length F of the forecast.
        seq_len: length L of the past that is read.
        n_layer: blocks.
        d_model: width D of a token.

    Raises:
        ConfigError: a size is out of range.

    Source: Zeng et al., arXiv 2406.05316; sizes of its ETTh1.
    """
    return build_model(
        ModelArgs.paper(num_channels, forecast_len, seq_len=seq_len, n_layer=n_layer, d_model=d_model)
    )  # fmt: skip
