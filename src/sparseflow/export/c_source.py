"""C99 sources of an integer network: weights, tables and a function that predicts; nothing else is needed."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.export.plan import make_folder
from sparseflow.ir.files import write_atomic
from sparseflow.ops.int8_net import Program, Step

__all__ = ["export_c"]

_TEMPLATES = Path(__file__).parent / "templates"
_KEYWORDS = (
    " auto break case char const continue default do double else enum extern float for goto if inline int long main"
    " register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
)
_LINE = 24


def export_c(program: Program, folder: str | Path, name: str = "net") -> list[Path]:
    """Write C sources that compute what the program computes, to the bit.

    `<name>.h` declares `int <name>_predict(const float *image, float *outputs, void *workspace)`, which returns the
    class; `<name>.c` is the network, `<name>_w<step>.c` the weights of each layer, `main.c` a program that predicts the
    images of a file, and `Makefile` builds it. Needed are a C99 compiler and its mathematical library.

    Args:
        program: the network.
        folder: where the files go; made if it is not there, files of the same names are replaced, and
            weights of an earlier export removed.
        name: prefix of files and symbols, a C identifier.

    Returns:
        The files written.

    Raises:
        ConfigError: the name is no C identifier.
        DataError: a file cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name) or f" {name} " in _KEYWORDS:
        raise ConfigError(f"name is {name!r}; expected a C identifier of lower-case letters, digits and _")
    files = dict(_Source(program, name).files())
    make_folder(Path(folder))
    for old in Path(folder).glob(f"{name}_w*.c"):
        if old.name not in files:
            old.unlink()
    return [write_atomic(Path(folder) / file, text) for file, text in files.items()]


class _Source:
    """The texts of one network: `data` are its arrays, `calls` the body of its function."""

    def __init__(self, program: Program, name: str) -> None:
        self.program, self.name = program, name
        self.data: list[str] = []
        self.calls: list[str] = []
        self.places, self.workspace = _places(program)

    @property
    def outputs(self) -> int:
        c, h, w = self.program.values[self.program.output].shape
        return c * h * w

    def files(self) -> Iterator[tuple[str, str]]:
        for i, step in enumerate(self.program.steps):
            if step.weight is not None:
                yield f"{self.name}_w{i}.c", self.weights(i, step.weight)
            self.emit(i, step)
        names = {"name": self.name, "NAME": self.name.upper(), "outputs": str(self.outputs)}
        for file in ("main.c", "Makefile"):
            yield file, Template((_TEMPLATES / file).read_text(encoding="utf-8")).substitute(names)
        yield f"{self.name}.h", self.header()
        yield f"{self.name}.c", self.source()

    def weights(self, i: int, weight: Tensor) -> str:
        codes = weight.permute(2, 3, 1, 0).flatten().tolist()
        made = _array("const int8_t", f"{self.name}_w{i}", [str(c) for c in codes])
        return f"/* Weights of step {i}: [kh][kw][c_in / groups][c_out]. */\n#include <stdint.h>\n\n{made}"

    def at(self, number: int) -> str:
        """Return the expression for the memory of a value."""
        real = self.program.values[number].real
        return f"({'float' if real else 'uint8_t'} *)(at + {self.places[number]})"

    def map(self, number: int) -> str:
        value = self.program.values[number]
        return f"(map_t){{{value.shape[0]}, {value.shape[1]}, {value.shape[2]}, {value.zero}}}"

    def finish(self, i: int, step: Step) -> str:
        """Write the constants behind a step's rounding, and return their address."""
        value = self.program.values[step.output]
        low, high, clamp = float(step.low - value.zero), float(step.high - value.zero), 1
        if value.real:
            clamp = int(step.clamp is not None)
            low, high = 0.0, 0.0 if step.clamp is None else step.clamp
        table = "NULL"
        if step.table is not None:
            table = f"t{i}"
            self.data.append(_array("static const uint8_t", table, [str(c) for c in step.table.tolist()]))
        fields = f"{_number(low)}, {_number(high)}, {value.zero}, {clamp}, {table}"
        self.data.append(f"static const finish_t f{i} = {{{fields}}};\n")
        return f"&f{i}"

    def window(self, i: int, step: Step) -> str:
        sizes = (*step.kernel, *step.stride, *step.padding, *step.dilation, int(step.include_padding), step.divisor)
        ratio = step.ratios[0] if step.ratios else 0.0
        fields = ", ".join(str(n) for n in sizes)
        self.data.append(f"static const window_t p{i} = {{{fields}, {_number(ratio)}}};\n")
        return f"&p{i}"

    def layer(self, i: int, step: Step) -> str:
        assert step.weight is not None
        assert step.bias is not None
        assert step.multiplier is not None
        self.data.append(f"extern const int8_t {self.name}_w{i}[];\n")
        for letter, tensor in (("b", step.bias), ("m", step.multiplier)):
            self.data.append(_array("static const float", f"{letter}{i}", [_number(x) for x in tensor.tolist()]))
        sizes = (
            *step.weight.shape[2:],
            *step.stride,
            *step.padding,
            *step.dilation,
            step.groups,
            int(step.integer_bias),
        )
        fields = ", ".join(str(int(n)) for n in sizes)
        self.data.append(f"static const layer_t l{i} = {{{fields}, {self.name}_w{i}, b{i}, m{i}}};\n")
        return f"&l{i}"

    def emit(self, i: int, step: Step) -> None:
        """Write the call of a step."""
        out, o = self.at(step.output), self.map(step.output)
        ins = [(self.at(n), self.map(n)) for n in step.inputs]
        x, m = ins[0] if ins else ("image", "")
        ratio = _number(step.ratios[0]) if step.ratios else ""
        if step.op == "quantize":
            self.calls.append(f"if (quantize(image, {ratio}, {o}, {self.finish(i, step)}, {out})) return -1;")
        elif step.op == "layer":
            name = "real_layer" if self.program.values[step.output].real else "layer"
            self.calls.append(f"{name}({x}, {m}, {self.layer(i, step)}, {self.finish(i, step)}, {o}, {out});")
        elif step.op == "max_pool":
            self.calls.append(f"max_pool({x}, {m}, {self.window(i, step)}, {o}, {out});")
        elif step.op == "average_pool":
            self.calls.append(f"average_pool({x}, {m}, {self.window(i, step)}, {self.finish(i, step)}, {o}, {out});")
        elif step.op == "mean":
            self.calls.append(f"mean({x}, {m}, {ratio}, {self.finish(i, step)}, {out});")
        elif step.op == "dequantize":
            self.calls.append(f"dequantize({x}, {m}, {ratio}, {out});")
        elif step.op == "real_mean":
            self.calls.append(f"real_mean({x}, {m}, {out});")
        elif step.op == "concat":
            self.emit_join(i, step, ins)
        else:
            self.emit_sum(i, step, [place for place, _ in ins])

    def emit_join(self, i: int, step: Step, ins: Sequence[tuple[str, str]]) -> None:
        finish, first = self.finish(i, step), 0
        for number, (x, m), ratio in zip(step.inputs, ins, step.ratios, strict=True):
            out, o = self.at(step.output), self.map(step.output)
            self.calls.append(f"join({x}, {m}, {_number(ratio)}, {finish}, {o}, {first}, {out});")
            first += self.program.values[number].shape[0]

    def emit_sum(self, i: int, step: Step, ins: Sequence[str]) -> None:
        zeros = [str(self.program.values[n].zero) for n in step.inputs]
        self.data.append(_array("static const int", f"z{i}", zeros))
        self.data.append(_array("static const float", f"r{i}", [_number(r) for r in step.ratios]))
        inputs = f"(const uint8_t *const[]){{{', '.join(ins)}}}"
        call = f"sum({len(ins)}, {inputs}, z{i}, r{i}, {self.finish(i, step)}"
        self.calls.append(f"{call}, {self.map(step.output)}, {self.at(step.output)});")

    def header(self) -> str:
        name, upper = self.name, self.name.upper()
        c, h, w = self.program.input
        notes = "".join(f" * {key}: {text[:200]}\n" for key, text in sorted(self.program.metadata.items()))
        notes = notes.replace("*/", "* /")
        return f"""/* An integer network, written by sparseflow.
{notes} */
#ifndef {upper}_H
#define {upper}_H

#define {upper}_CHANNELS {c}
#define {upper}_HEIGHT {h}
#define {upper}_WIDTH {w}
#define {upper}_INPUTS {c * h * w}
#define {upper}_OUTPUTS {self.outputs}
#define {upper}_WORKSPACE {self.workspace}

#ifdef __cplusplus
extern "C" {{
#endif

/* Computes one image.
 *   image:     {upper}_INPUTS numbers, [channels][height][width], normalised as in training
 *   outputs:   receives {upper}_OUTPUTS numbers
 *   workspace: {upper}_WORKSPACE bytes aligned as malloc aligns them; one for each thread
 * Returns the place of the largest output, or -1 if the image has NaN. */
int {name}_predict(const float *image, float *outputs, void *workspace);

#ifdef __cplusplus
}}
#endif
#endif
"""

    def source(self) -> str:
        most = max([v.shape[0] for v in self.program.values])
        runtime = (_TEMPLATES / "runtime.c").read_text(encoding="utf-8")
        # A static function that no step calls would be a warning.
        parts = re.split(r"(?m)^(?=static |/\*|typedef )", runtime)
        body = "\n".join(f"  {call}" for call in self.calls)
        c, h, w = self.program.values[self.program.output].shape
        return f"""#include "{self.name}.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define MOST_CHANNELS {most}

{"".join(_used(parts, body))}
{"".join(self.data)}
int {self.name}_predict(const float *image, float *outputs, void *workspace) {{
  uint8_t *const at = (uint8_t *)workspace;
  const float *const real = {self.at(self.program.output)};
  int best = 0, c, p;
{body}
  for (c = 0; c < {c}; ++c) {{
    for (p = 0; p < {h * w}; ++p) outputs[c * {h * w} + p] = real[p * {c} + c];
  }}
  for (p = 1; p < {c * h * w}; ++p) {{
    if (outputs[p] > outputs[best]) best = p;
  }}
  return best;
}}
"""


def _used(parts: Sequence[str], body: str) -> list[str]:
    """Return the pieces of the runtime whose functions are called, directly or by one another."""
    named = [(re.match(r"static \w+ (\w+)\(", part), part) for part in parts]
    functions = {m.group(1): part for m, part in named if m is not None}
    needed: set[str] = set()
    waiting = [body]
    while waiting:
        text = waiting.pop()
        for name in functions:
            if name not in needed and re.search(rf"\b{name}\(", text):
                needed.add(name)
                waiting.append(functions[name])
    kept: list[str] = []
    for m, part in named:
        if m is not None and m.group(1) not in needed:
            # The comment in front of a function goes with it.
            if kept and kept[-1].startswith("/*") and kept[-1].rstrip().endswith("*/") and len(kept) > 1:
                kept.pop()
            continue
        kept.append(part)
    return kept


def _places(program: Program) -> tuple[list[int], int]:
    """Return where each value lies in the workspace, in bytes, and its size; lives that do not overlap share it."""
    last = {n: i for i, step in enumerate(program.steps) for n in step.inputs}
    last[program.output] = len(program.steps)
    places, living, size = [0] * len(program.values), list[tuple[int, int, int]](), 0
    for i, step in enumerate(program.steps):
        living = [one for one in living if one[2] >= i]
        value = program.values[step.output]
        c, h, w = value.shape
        wanted = -(-c * h * w * (4 if value.real else 1) // 16) * 16
        start = 0
        for low, high, _ in sorted(living):
            if low - start >= wanted:
                break
            start = max(start, high)
        places[step.output] = start
        living.append((start, start + wanted, last.get(step.output, i)))
        size = max(size, start + wanted)
    return places, size


def _number(x: float) -> str:
    """Return a float32 as a C literal that loses nothing.

    >>> _number(0.5), _number(3.0), _number(float("inf")), _number(1e-20)
    ('0.5f', '3.0f', 'INFINITY', '9.999999682655225e-21f')
    """
    single = float(torch.tensor(x, dtype=torch.float32))
    return "INFINITY" if single == float("inf") else f"{single!r}f"


def _array(kind: str, name: str, items: Sequence[str]) -> str:
    rows = (", ".join(items[i : i + _LINE]) for i in range(0, len(items), _LINE))
    return f"{kind} {name}[{len(items)}] = {{\n  " + ",\n  ".join(rows) + "};\n"
