"""CMamba: one network, two variants, any number system."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.nn.models.cmamba import compiled
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.blocks import Embedding, Encoder, Head, MambaBlock
from sparseflow.nn.models.cmamba.fake import FakeQuant
from sparseflow.nn.models.cmamba.integers import Integers
from sparseflow.nn.models.cmamba.primitives import Float, Primitives

__all__ = ["MODES", "CMamba", "build_model"]

MODES: Mapping[str, Callable[[], Primitives]] = MappingProxyType({"fp32": Float, "fakeq": FakeQuant, "int8": Integers})


class CMamba(nn.Module):
    """Forecast V series from their past: `[B, V, L]` → `[B, V, F]`.

    "official": standardise each series; repeat its last value S times; patches P → D, plus positions; blocks of
    M-Mamba and GDD-MLP on `[B·V, K, D]`; SiLU; the tokens of a series, D outermost (d·K + k), → F by one linear
    layer for all series; back to the level of the past.

    "seed": patches of all series together, V·P → D (series outermost), plus positions; blocks of Mamba on `[B, K, D]`;
    RMSNorm; all tokens, K outermost → V·F.

    Args:
        args: sizes and variant.
        quant_mode: number system, a name of `MODES`.

    Raises:
        UnsupportedError: no such number system.

    Source: Zeng et al., arXiv 2406.05316 ("official"); the project's first design ("seed").

    >>> import torch
    >>> CMamba(ModelArgs.paper(7))(torch.zeros(2, 7, 96)).shape
    torch.Size([2, 7, 96])
    """

    def __init__(self, args: ModelArgs, quant_mode: str = "fp32") -> None:
        super().__init__()
        if quant_mode not in MODES:
            raise UnsupportedError(f"quant_mode is {quant_mode!r}; a CMamba can be built as {', '.join(MODES)}")
        self.args = args
        self.quant_mode = quant_mode
        primitives = MODES[quant_mode]()
        self.patches = primitives.patches(args.patch_len, args.stride, args.padding)
        if args.variant == "official":
            self._make_official(primitives)
        else:
            self._make_seed(primitives)

    def _make_official(self, primitives: Primitives) -> None:
        args = self.args
        self.standardize = primitives.standardize()
        self.patch_embedding: nn.Module = Embedding(args, primitives)
        self.encoder = Encoder(args, primitives)
        self.head = Head(args, primitives)
        self.restore = primitives.restore()

    def _make_seed(self, primitives: Primitives) -> None:
        args = self.args
        self.patch_embedding = primitives.linear(args.patch_len * args.num_channels, args.d_model, bias=True)
        self.position_embedding = primitives.position(args.num_patches, args.d_model)
        self.embedding_dropout = primitives.dropout(args.head_dropout)
        self.blocks = nn.ModuleList(MambaBlock(args, primitives) for _ in range(args.n_layer))
        self.norm_f = primitives.rms_norm(args.d_model, args.eps)
        outputs = args.num_channels * args.forecast_len
        self.output_layer = primitives.linear(args.d_model * args.num_patches, outputs, bias=True)
        self.output_dropout = primitives.dropout(args.forecast_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the forecast `[B, V, F]`; plain inference in float32 on a CPU is compiled, see `compiled`.

        Raises:
            DataError: the input is not `[B, V, L]` of the network's V and L.
        """
        args = self.args
        if x.ndim != 3 or x.shape[1:] != (args.num_channels, args.seq_len):
            raise DataError(
                f"the input has shape {list(x.shape)}; expected [B, {args.num_channels}, {args.seq_len}]: "
                f"{args.num_channels} series of {args.seq_len} values"
            )
        if (y := compiled.forward(self, x)) is not None:
            return y
        return self._official(x) if args.variant == "official" else self._seed(x)

    def _official(self, x: Tensor) -> Tensor:
        args = self.args
        samples, v, d, k = x.shape[0], args.num_channels, args.d_model, args.num_patches
        x, mean, std = self.standardize(x)
        x = self.patches(x).reshape(samples * v, k, args.patch_len)
        x = self.encoder(self.patch_embedding(x)).swapaxes(1, 2).reshape(samples, v, d * k)
        out: Tensor = self.restore(self.head(x), mean, std)
        return out

    def _seed(self, x: Tensor) -> Tensor:
        args = self.args
        samples, v, d, k = x.shape[0], args.num_channels, args.d_model, args.num_patches
        x = self.patches(x).swapaxes(1, 2).reshape(samples, k, v * args.patch_len)
        x = self.embedding_dropout(self.position_embedding(self.patch_embedding(x)))
        for block in self.blocks:
            x = block(x)
        x = self.output_dropout(self.output_layer(self.norm_f(x).reshape(samples, d * k)))
        return x.reshape(samples, v, args.forecast_len)


def build_model(args: ModelArgs, quant_mode: str = "fp32") -> CMamba:
    """Build a CMamba with fresh weights.

    Args:
        args: sizes and variant.
        quant_mode: number system, a name of `MODES`: "fp32".

    Raises:
        UnsupportedError: no such number system.

    >>> sum(p.numel() for p in build_model(ModelArgs.paper(7)).parameters())
    385292
    """
    return CMamba(args, quant_mode)
