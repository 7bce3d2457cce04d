"""The compiled engine behind a program."""

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.ops import _library
from sparseflow.ops._library import native
from sparseflow.ops.int8_net.program import Program

__all__ = ["ABSENT", "SKIPS", "Engine", "isas"]

ABSENT: str | None = _library.ABSENT
if native is not None and not hasattr(native, "Network"):
    ABSENT = "the compiled kernels are older than this operator; reinstall sparseflow with a C++17 compiler"

SKIPS = ("best", "never", "one", "two", "four", "two_across", "four_across")
"""How layers run over zeros: what is best for each; not looking; or skipping four channels that are 0 in so many
pixels, neighbours or those at one place of several images."""


def isas() -> list[str]:
    """Return the instruction sets that the engine has kernels for on this machine, slowest first."""
    return [] if ABSENT is not None else list(native.engine_isas())


class Engine:
    """An integer network in C++: 8-bit codes, 32-bit sums, tables looked up where codes are rounded.

    Its results do not depend on threads, batch, instruction set or skipping, bit for bit. It holds no Python state,
    and may be called from several threads.

    Args:
        program: the network.
        isa: "auto", or one of `isas()`.
        skip: one of `SKIPS`.

    Raises:
        UnsupportedError: there are no compiled kernels.
        ConfigError: no such instruction set or way to skip.
        DataError: the program is not consistent; says where.
    """

    def __init__(self, program: Program | bytes, *, isa: str = "auto", skip: str = "best") -> None:
        if ABSENT is not None:
            raise UnsupportedError(f"the engine cannot run: {ABSENT}")
        if isa != "auto" and isa not in isas():
            raise ConfigError(f"isa is {isa!r}; this machine runs auto, {', '.join(isas())}")
        if skip not in SKIPS:
            raise ConfigError(f"skip is {skip!r}; expected one of {', '.join(SKIPS)}")
        data = program if isinstance(program, bytes) else program.to_bytes()
        self.program = Program.from_bytes(data) if isinstance(program, bytes) else program
        self.isa, self.skip = isa, skip
        try:
            self._network = native.Network(data)
        except ValueError as e:
            raise DataError(str(e)) from e

    def __call__(self, images: Tensor) -> Tensor:
        """Return the outputs `[N, *output_shape]` of images `[N, C, H, W]`, on the threads that torch uses.

        Raises:
            ConfigError: images of another shape or type, or not on the CPU.
            DataError: an image has NaN.
        """
        return self._run(images, -1)[0]

    def codes(self, images: Tensor, name: str) -> Tensor:
        """Return the codes of a value on the way, uint8 `[N, C, H, W]`.

        Raises:
            ConfigError: no such value, or it is real.
            DataError: an image has NaN.
        """
        found = self._run(images, self.program.find(name))[1]
        assert found is not None
        return found

    def _run(self, images: Tensor, probe: int) -> tuple[Tensor, Tensor | None]:
        program = self.program
        want = (len(images) if images.ndim else 0, *program.input)
        if tuple(images.shape) not in (want, want[:2] if program.input[1:] == (1, 1) else want):
            raise ConfigError(f"images have shape {tuple(images.shape)}; expected {['N', *program.input]}")
        if images.device.type != "cpu" or images.dtype != torch.float32:
            raise ConfigError(f"images are {images.dtype} on {images.device}; expected float32 on the CPU")
        images = images.detach().contiguous()
        out = torch.empty(len(images), *program.output_shape)
        probed = None
        if probe >= 0:
            if program.values[probe].real:
                raise ConfigError(f"value {program.values[probe].name!r} is real; only codes can be read")
            probed = torch.empty(len(images), *program.values[probe].shape, dtype=torch.uint8)
        try:
            self._network.run(
                images.data_ptr(), out.data_ptr(), len(images), torch.get_num_threads(), self.isa, self.skip, probe,
                0 if probed is None else probed.data_ptr(),
            )  # fmt: skip
        except ValueError as e:
            raise DataError(str(e)) from e
        return out, probed
