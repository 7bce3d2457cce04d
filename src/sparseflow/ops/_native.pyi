"""Signatures of the compiled kernels (csrc/); torch-free, so every tensor handed in is its `data_ptr()`.

Nothing is checked here: the caller passes float32 or int32 data of exactly the
sizes named, densely packed, on the CPU, and keeps it alive during the call.
A pointer of 0 means "not given" where the text allows it. The GIL is released.
Outputs never alias inputs and are written completely.

Layouts (M = steps * N, steps outermost; words = ceil(C/32)):

* float NCHW `[M, C, H, W]` (`channels_last=False`) or NHWC `[M, H, W, C]` (`channels_last=True`);
* packed spikes `[M, H, W, words]` int32, bit b of word w = channel 32*w + b, padding bits 0;
* rows: the prepacked weight, an opaque float32 vector of `rows_size(...)` elements.

`isa` is "auto", or "scalar", "avx2" or "avx512" out of `isas()` (else ValueError).
`threads` is the number of OpenMP threads; results do not depend on it, bit for bit.

Import torch first: its OpenMP runtime is the one that this module must share.
"""

from torch import Tensor

def isa() -> str:
    """Return the instruction set that "auto" takes on this machine."""

def isas() -> list[str]:
    """Return the instruction sets that run on this machine, slowest first; "scalar" always is one."""

def arena_empty(floats: int) -> Tensor:
    """Return `[floats]` float32 on memory of a freed one of about that size, if any, else on fresh huge pages.

    The memory comes back when the last view of the tensor is gone; up to 256 MB of it then wait for the next call.

    Raises:
        MemoryError: there is no memory.
    """

def arena_free() -> int:
    """Return the bytes that wait."""

def arena_clear() -> None:
    """Give the bytes that wait back to the system."""

class ConvGeometry:
    """Sizes of one convolution; cheap to make, immutable, reusable over calls.

    Raises:
        ValueError: a size is not positive, padding is negative, groups do not divide the
            channels, or the output would be empty.
    """

    def __init__(
        self,
        m: int,
        c: int,
        h: int,
        w: int,
        cout: int,
        kh: int,
        kw: int,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> None: ...
    @property
    def ho(self) -> int:
        """Output height."""

    @property
    def wo(self) -> int:
        """Output width."""

class LIFConfig:
    """Neuron constants, rounded to float32 here.

    h = v + x                                  kind "if"
    h = v + (x - (v - r)) / decay              kind "lif", decay_input (decay = tau)
    h = v - (v - r) / decay + x                kind "lif", not decay_input
    h = ... * decay instead of / decay         kind "plif" (decay = sigmoid(w))

    with r = v_reset or 0 if that is None; s = h >= v_threshold;
    v = v_reset where s, or h - v_threshold * s if v_reset is None.
    Rounded step by step in this order as torch does, no fused multiply-add.

    Raises:
        ValueError: unknown kind.
    """

    def __init__(
        self, kind: str, decay: float, v_threshold: float, v_reset: float | None, decay_input: bool
    ) -> None: ...

def pack_spikes(
    x: int, words: int, m: int, c: int, h: int, w: int, channels_last: bool, threads: int, isa: str = "auto"
) -> tuple[int, int]:
    """Pack floats to bits: bit = (x != 0). Returns (elements that are neither 0 nor 1, elements that are not 0).

    NaN counts as both. If the first count is not 0 the words hold the non-zero pattern, not spikes.
    """

def unpack_spikes(
    words: int, x: int, m: int, c: int, h: int, w: int, channels_last: bool, threads: int, isa: str = "auto"
) -> None:
    """Write 1.0 for every set bit and 0.0 for every other."""

def count_spikes(words: int, size: int) -> int:
    """Return the number of set bits in `size` words."""

def or_pool2d(
    words: int,
    out: int,
    m: int,
    h: int,
    w: int,
    words_per_pixel: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ho: int,
    wo: int,
    threads: int,
) -> None:
    """Max-pool spikes: OR the words of every window that lie inside the map into `[M, ho, wo, words]`."""

def lif(
    x: int,
    v0: int,
    spikes: int,
    v: int,
    steps: int,
    n: int,
    x_stride: int,
    config: LIFConfig,
    threads: int,
    isa: str = "auto",
) -> None:
    """Run neurons over all steps, elementwise in any layout shared by all four arrays.

    Args:
        x: input; step t starts at element t * x_stride.
        v0: `[n]` membrane before the first step, or 0 for v_reset (0.0 if that is None).
        spikes: `[steps, n]` output, 0.0 or 1.0.
        v: `[n]` membrane after the last step.
        steps: time steps.
        n: neurons.
        x_stride: `n`, or 0 for an input that is the same at every step.
        config: neuron constants.
        threads: OpenMP threads.
        isa: instruction set, see above.
    """

def lif_pack(
    x: int,
    v0: int,
    words: int,
    v: int,
    steps: int,
    n: int,
    c: int,
    h: int,
    w: int,
    channels_last: bool,
    repeat: bool,
    config: LIFConfig,
    threads: int,
    isa: str = "auto",
) -> None:
    """Run neurons over all steps and pack their spikes.

    Args:
        x: `[steps * n, ...]` float in the layout named by channels_last, or `[n, ...]` if repeat.
        v0: `[n, ...]` in the layout of x, or 0 for v_reset (0.0 if that is None).
        words: `[steps * n, h, w, words]` output.
        v: `[n, ...]` output in the layout of x.
        steps: time steps.
        n: samples.
        c: channels.
        h: height.
        w: width.
        channels_last: layout of x, v0 and v.
        repeat: x is the same at every step and is stored once.
        config: neuron constants.
        threads: OpenMP threads.
        isa: instruction set, see above.
    """

def rows_size(cout: int, cin_per_group: int, kh: int, kw: int, groups: int) -> int:
    """Return the number of float32 elements of the packed weight."""

def pack_rows(weight: int, rows: int, cout: int, cin_per_group: int, kh: int, kw: int, groups: int) -> None:
    """Pack a contiguous `[cout, cin_per_group, kh, kw]` weight for the conv functions."""

def conv_words(
    words: int,
    rows: int,
    bias: int,
    residual: int,
    out: int,
    geometry: ConvGeometry,
    channels_last: bool,
    threads: int,
    isa: str = "auto",
) -> None:
    """Convolve packed spikes: `out = conv(words, rows) + bias + residual`, float32 accumulation.

    Args:
        words: `[m, h, w, words]`.
        rows: from `pack_rows` for the same geometry; finite (a zero input skips its weight).
        bias: `[cout]`, or 0.
        residual: `[m, cout, ho, wo]` float in the layout of out, or 0.
        out: `[m, cout, ho, wo]` float.
        geometry: sizes.
        channels_last: layout of out and residual.
        threads: OpenMP threads.
        isa: instruction set, see above.
    """

def conv_values(
    x: int,
    rows: int,
    bias: int,
    residual: int,
    out: int,
    geometry: ConvGeometry,
    x_channels_last: bool,
    channels_last: bool,
    threads: int,
    isa: str = "auto",
) -> None:
    """Convolve sparse floats: every element x with not (x == 0) adds x * row; NaN and infinities pass through.

    x is `[m, c, h, w]` float in the layout named by x_channels_last; the rest as in `conv_words`.
    """

def conv_lif(
    words: int,
    rows: int,
    bias: int,
    residual: int,
    residual_words: int,
    v0: int,
    words_out: int,
    v: int,
    geometry: ConvGeometry,
    steps: int,
    config: LIFConfig,
    threads: int,
    isa: str = "auto",
) -> None:
    """Convolve packed spikes and run neurons on the result over all steps; floats never leave the cache.

    Args:
        words: `[steps * n, h, w, words]`; geometry.m = steps * n.
        rows: from `pack_rows`.
        bias: `[cout]`, or 0.
        residual: float NHWC `[steps * n, ho, wo, cout]` added before the neuron, or 0.
        residual_words: spikes `[steps * n, ho, wo, ceil(cout/32)]` added before the neuron as 0/1, or 0;
            at most one of the two residuals.
        v0: float NHWC `[n, ho, wo, cout]`, or 0 for v_reset (0.0 if that is None).
        words_out: `[steps * n, ho, wo, ceil(cout/32)]` output.
        v: float NHWC `[n, ho, wo, cout]` output.
        geometry: sizes.
        steps: time steps.
        config: neuron constants.
        threads: OpenMP threads.
        isa: instruction set, see above.
    """

def tiles_refusal() -> str | None:
    """Return why this machine or build cannot multiply tiles (AMX), or None; asks for permission at the first call."""

def tiles_size(cout: int, cin: int, kh: int, kw: int) -> int:
    """Return the number of bytes of the weight packed for tiles."""

def pack_tiles(weight: int, tiles: int, cout: int, cin: int, kh: int, kw: int) -> None:
    """Pack a contiguous finite `[cout, cin, kh, kw]` weight as three signed bytes a weight and a scale a channel."""

def tile_conv_words(
    words: int,
    tiles: int,
    bias: int,
    residual: int,
    out: int,
    geometry: ConvGeometry,
    channels_last: bool,
    threads: int,
) -> None:
    """As `conv_words`, with tiles from `pack_tiles`; groups == 1, cin*kh*kw < 65536. Absent in builds without AMX."""

def pack_counts(
    x: int, counts: int, m: int, c: int, h: int, w: int, channels_last: bool, threads: int
) -> tuple[int, int]:
    """Pack floats to bytes `[m, h, w, c rounded up to 32]`. Absent in builds without AMX.

    Returns (elements that are no integer of 0 to 255, the largest of the others); the former are packed as 0.
    """

def tile_conv_counts(
    counts: int, tiles: int, bias: int, out: int, geometry: ConvGeometry, channels_last: bool, threads: int
) -> None:
    """As `tile_conv_words`, from `pack_counts`; cin*kh*kw times the largest count < 65536. Absent without AMX."""

def tile_conv_lif(
    words: int,
    tiles: int,
    bias: int,
    residual: int,
    residual_words: int,
    v0: int,
    words_out: int,
    v: int,
    geometry: ConvGeometry,
    steps: int,
    config: LIFConfig,
    threads: int,
) -> None:
    """As `conv_lif`, with tiles from `pack_tiles`; groups == 1, cin*kh*kw < 65536. Absent in builds without AMX."""

def lookup_bytes(
    codes: int, tables: int, out: int, maps: int, size: int, shared: bool, threads: int, isa: str = "auto"
) -> None:
    """Look byte codes up in tables: `out[k, i] = tables[k, codes[k, i]]`, elementwise in any dense layout.

    Args:
        codes: uint8 `[maps, size]`, or `[size]` if shared.
        tables: uint8 `[maps, 256]`.
        out: uint8 `[maps, size]`.
        maps: tables.
        size: codes that each table reads.
        shared: all tables read the same codes.
        threads: OpenMP threads.
        isa: instruction set; "avx2" runs the scalar code.
    """

def lookup_floats(
    codes: int, tables: int, out: int, maps: int, size: int, shared: bool, threads: int, isa: str = "auto"
) -> int:
    """As `lookup_bytes`, with codes and outputs in float32.

    Returns how many codes are no integer of 0 to 255; what is written for them is unspecified.
    """

def engine_isas() -> list[str]:
    """Return the instruction sets that `Network` has kernels for here, slowest first; "avx512" needs VNNI and VBMI."""

class Network:
    """An integer network of a plan file, ready to run; may be called from several threads.

    Raises:
        ValueError: the bytes are no plan, or not a consistent one; says where.
    """

    def __init__(self, plan: bytes) -> None: ...
    def run(
        self,
        images: int,
        out: int,
        n: int,
        threads: int,
        isa: str = "auto",
        skip: str = "best",
        probe: int = -1,
        probed: int = 0,
    ) -> None:
        """Compute the outputs of images; results do not depend on threads, isa or skip, bit for bit.

        Args:
            images: float32 `[n, c, h, w]`.
            out: float32 `[n, outputs]`.
            n: images.
            threads: OpenMP threads.
            isa: "auto", or one of `engine_isas()`.
            skip: "never" looks for zeros; "one", "two" or "four" skips four channels that are 0 in so many
                neighbouring pixels, "two_across" or "four_across" in pixels of several images; "best" decides
                layer by layer from some of its pixels.
            probe: number of a value whose codes are wanted too, or -1.
            probed: uint8 `[n, c, h, w]` of that value.

        Raises:
            ValueError: an image has NaN, or the value to probe is real.
        """

class Scan:
    """Operands of one selective scan over `[batch, steps, channels]` with `states` states a channel.

    `x`, `dt`, `b`, `c`, `direct` and `gate` are pairs of an address and of the elements from one row (of a sequence
    and step, itself dense) to the next; `direct` may be one number a channel, `(address, 0)`, or absent, `(0, 0)`,
    as may `gate`. `rate` is log2(e) A, `[states]` if shared, else `[states, channels]`. `bias` `[channels]` and
    `start` `[batch, channels, states]` may be 0. The memory must outlive the object.
    """

    def __init__(
        self,
        batch: int,
        steps: int,
        channels: int,
        states: int,
        x: tuple[int, int],
        dt: tuple[int, int],
        b: tuple[int, int],
        c: tuple[int, int],
        direct: tuple[int, int],
        gate: tuple[int, int],
        rate: int,
        bias: int,
        start: int,
        shared: bool,
        softplus: bool,
    ) -> None: ...

def scan(scan: Scan, y: int, state: int, threads: int, isa: str = "auto") -> None:
    """Run the scan of `sparseflow.ops.selective_scan` in float32, 16 channels a vector.

    Instruction sets differ in the last bits, as their exponentials and sums do.

    Args:
        scan: operands; no size is 0.
        y: `[batch, steps, channels]` output.
        state: `[batch, channels, states]` output, or 0.
        threads: OpenMP threads.
        isa: instruction set, see above.
    """

def scan_backward(
    scan: Scan,
    grad_y: tuple[int, int],
    grad_state: int,
    x: int,
    dt: int,
    b: int,
    c: int,
    direct: int,
    gate: int,
    start: int,
    groups: int,
    rate: int,
    direct_sum: int,
    bias: int,
    threads: int,
    isa: str = "auto",
) -> None:
    """Write the gradients of a scan, dense and in the shapes of the operands.

    Args:
        scan: operands, as in the forward call.
        grad_y: gradient of y, an address and a row as in `Scan`.
        grad_state: gradient of the last state, or 0.
        x: output.
        dt: output.
        b: output.
        c: output.
        direct: output; 0 where the operand is absent or one number a channel.
        gate: output; 0 where the operand is absent.
        start: output, or 0.
        groups: parts in which sums over sequences come; at most `batch`.
        rate: `[groups, states, channels]`, gradient of A.
        direct_sum: `[groups, channels]` where `direct` is one number a channel, else 0.
        bias: `[groups, channels]`, or 0.
        threads: OpenMP threads.
        isa: instruction set, see above.
    """

class CMambaSizes:
    """Sizes of a forecaster of `sparseflow.nn.models.cmamba`.

    `taps` is 0 in the published network, `hidden` in the other, and where there are fewer series than the reduction.
    """

    def __init__(
        self,
        official: bool,
        series: int,
        length: int,
        padding: int,
        patch: int,
        stride: int,
        patches: int,
        width: int,
        layers: int,
        inner: int,
        states: int,
        rank: int,
        taps: int,
        hidden: int,
        forecast: int,
    ) -> None: ...

def cmamba(
    sizes: CMambaSizes,
    weights: list[int],
    epsilons: list[float],
    x: int,
    y: int,
    batch: int,
    threads: int,
    isa: str = "auto",
) -> None:
    """Compute the forecast of a CMamba in float32.

    Results do not depend on threads or on the rest of a batch, bit for bit; instruction sets differ in the last bits.

    Args:
        sizes: of the network.
        weights: addresses of dense float32 arrays as torch keeps them, 0 for what the variant lacks: embedding, its
            bias, positions; of each layer norm, in_proj and its bias, conv1d and its bias, D, x_proj, dt_proj and its
            bias, A_log, out_proj and its bias, both matrices of the MLP of scales and of that of shifts; norm_f, head
            and its bias.
        epsilons: of the norm of each layer, then of the instance norm or of norm_f.
        x: `[batch, series, length]`.
        y: `[batch, series, forecast]` output.
        batch: samples, 0 or more.
        threads: OpenMP threads, at most.
        isa: instruction set, see above.

    Raises:
        ValueError: not as many addresses or epsilons as the layers ask for, or no such instruction set.
    """

def changed(attributes: list[dict[str, object]], children: list[tuple[object, ...]]) -> int:
    """Tell what was done to torch modules since their children were noted, in a few microseconds.

    Args:
        attributes: `__dict__` of each module. Only children are asked for of the first.
        children: values of its `_modules` when they were noted.

    Returns:
        3 if a module has other children, else 2 if one has a forward of its own, else 1 if one has forward hooks or
        pre-hooks, else 0; of 1 and 2 what the last such module has.
    """

class IntegerLinear:
    """A linear layer of 8-bit codes by itself, with its requantisation; sums wrap at 32 bits.

    Args:
        weight: int8 `[outputs, inputs]`, little-endian bytes, as all that follow.
        bias: int32 `[outputs]`.
        multiplier: int32 `[outputs]`.
        shift: uint8 `[outputs]`, 1 to 62.
        limit: largest result.
        inputs: codes of a row.
        outputs: results of a row.

    Raises:
        ValueError: bytes of another size, or a number out of its range.
    """

    def __init__(
        self, weight: bytes, bias: bytes, multiplier: bytes, shift: bytes, limit: int, inputs: int, outputs: int
    ) -> None: ...
    def run(self, x: int, y: int, rows: int, isa: str = "auto") -> None:
        """Compute rows.

        Args:
            x: uint8 `[rows, inputs]`, codes with 128 added.
            y: int32 `[rows, outputs]`.
            rows: 0 or more.
            isa: "auto", or one of `engine_isas()`.
        """

class IntegerScan:
    """The selective scan of 8-bit codes by itself, as step 4.6 of `ops/fixed_point/README.md` has it.

    Args:
        delta: uint16 `[256]`, little-endian bytes, as the next two.
        decay: int16 `[states, 256]`, not negative.
        silu: int8 `[256]`.
        t: shift behind Δ·x, 0 to 8.
        j: shift of B, 0 to 8.
        state: factor of the sum over the states.
        skip: factor of D·x.
        y_shift: shift behind both, 1 to 62.
        multiplier: factor of what leaves.
        shift: and its shift, 1 to 62.
        limit: and its largest code.
        states: N.
        channels: E.

    Raises:
        ValueError: bytes of another size, or a number out of its range.
    """

    def __init__(
        self,
        delta: bytes,
        decay: bytes,
        silu: bytes,
        t: int,
        j: int,
        state: int,
        skip: int,
        y_shift: int,
        multiplier: int,
        shift: int,
        limit: int,
        states: int,
        channels: int,
    ) -> None: ...
    def run(self, x: int, p: int, z: int, bcd: int, out: int, sequences: int, steps: int, isa: str = "auto") -> None:
        """Compute sequences, each from a state of 0.

        Args:
            x: uint8 `[sequences, steps, channels]`, codes with 128 added, as all that follow.
            p: of the same shape, codes of Δ.
            z: of the same shape.
            bcd: `[sequences, steps, 2 * states + channels]`: B, C and D side by side.
            out: as x.
            sequences: 0 or more.
            steps: 0 or more.
            isa: "auto", or one of `engine_isas()`.
        """

class IntegerCMamba:
    """A CMamba in integers, ready to run; may be called from several threads.

    Args:
        sizes: of the network, "official" alone.
        arrays: of each array of `nn.models.cmamba.lowering.lower` by name its type and its bytes, little-endian.

    Raises:
        ValueError: an array is missing, of another type or size or out of its range; names it.
    """

    def __init__(self, sizes: CMambaSizes, arrays: dict[str, tuple[str, bytes]]) -> None: ...
    def run(self, x: int, y: int, batch: int, threads: int, isa: str = "auto") -> None:
        """Compute forecasts; results do not depend on threads, batch or isa, bit for bit.

        Args:
            x: int32 readings `[batch, series, length]` with 16 fraction bits, below 2^24.
            y: int32 forecasts `[batch, series, forecast]` with 16 fraction bits.
            batch: samples, 0 or more.
            threads: OpenMP threads, at most.
            isa: "auto", or one of `engine_isas()`.
        """
