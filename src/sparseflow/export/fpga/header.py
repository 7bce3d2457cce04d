"""`cmamba_params.h`: sizes of a network, and where its numbers lie in `weights.bin`, for sources in C and C++."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.pack import offsets
from sparseflow.ir.qspec import QSpec

__all__ = ["params_header", "sizes"]

Arrays = Mapping[str, NDArray[np.integer]]

_TYPES = """typedef struct {
  uint32_t weight, bias, multiplier, shift; /* bytes into weights.bin */
  int32_t inputs, outputs, limit;
} sf_matrix_t;

typedef struct {
  uint32_t first, first_m, first_s, gelu, second, bias, second_m, second_s;
  int32_t first_limit, second_limit;
} sf_gdd_t;

typedef struct {
  int64_t eps;
  uint32_t norm_multiplier, norm_shift;
  int32_t norm_limit;
  sf_matrix_t in_proj;
  uint32_t act;
  sf_matrix_t x_proj, dt_proj;
  uint32_t delta, decay, silu;
  int32_t t, j, m_h, m_d, m_o, s_y, s_o, scan_limit;
  sf_matrix_t out_proj;
  int32_t pool_m[2], pool_s[2], pool_limit;
  sf_gdd_t gdd[2]; /* scale, shift */
  uint32_t gate_scale, gate_shift;
} sf_block_t;
"""


def sizes(spec: QSpec, arrays: Arrays) -> dict[str, int]:
    """Return the sizes of a network by the letters of the arithmetic's page, and `BLOCKS`.

    V series, L readings, patches of P every S, K of them; widths D of a token, E of the scan, R of its steps; N
    states; H hidden numbers of the channel MLP; F readings ahead.

    Raises:
        ConfigError: the arrays lack a layer, or do not fit the specification; names it.
    """
    try:
        d, p = arrays["patch_embedding.value_embedding.weight"].shape
        mixer = "encoder.layers.0.mixer."
        e, r = arrays[f"{mixer}dt_proj.weight"].shape
        model = {name: int(spec.model[name]) for name in ("num_channels", "seq_len", "stride", "n_layer")}
        found = {
            "V": model["num_channels"], "L": model["seq_len"], "P": p, "S": model["stride"],
            "K": arrays["patch_embedding.position_embedding.pe"].shape[0], "D": d, "E": e,
            "N": arrays[f"{mixer}scan.decay"].shape[0], "R": r,
            "H": arrays["encoder.layers.0.GDDMLP.fc_sc.0.weight"].shape[0], "F": arrays["head.linear.bias"].shape[0],
            "BLOCKS": model["n_layer"],
        }  # fmt: skip
    except (KeyError, ValueError) as e:
        raise ConfigError(f"the integers or the specification of the network lack {e}; lower its weights anew") from e
    return found


def params_header(spec: QSpec, arrays: Arrays) -> str:
    """Return the text of `cmamba_params.h`; C99 and C++.

    Raises:
        ConfigError: the arrays lack a layer; names it.
    """
    at, found = offsets(arrays), sizes(spec, arrays)

    def number(name: str, place: int | None = None) -> str:
        values = _take(arrays, name)
        return _literal(values.reshape(-1)[place] if place is not None else values.reshape(()))

    def pair(name: str) -> str:
        return f"{{{number(name, 0)}, {number(name, 1)}}}"

    def where(name: str) -> str:
        _take(arrays, name)
        return f"{at[name]}u"

    def matrix(path: str) -> str:
        outputs, inputs = _take(arrays, f"{path}.weight").shape
        places = ", ".join(where(f"{path}.{part}") for part in ("weight", "bias", "multiplier", "shift"))
        return f"{{{places}, {inputs}, {outputs}, {number(f'{path}.limit')}}}"

    def gdd(path: str, fc: str, add: str) -> str:
        places = [where(f"{path}{fc}.0.{part}") for part in ("weight", "multiplier", "shift")]
        places += [where(f"{path}{fc}.1.table"), where(f"{path}{fc}.2.weight")]
        places += [where(f"{path}{add}.{part}") for part in ("bias", "multiplier", "shift")]
        return f"{{{', '.join(places)}, {number(f'{path}{fc}.0.limit')}, {number(f'{path}{add}.limit')}}}"

    def block(i: int) -> str:
        path, mixer = f"encoder.layers.{i}.", f"encoder.layers.{i}.mixer."
        scan, pool = f"{mixer}scan.", f"{path}GDDMLP.pool."
        parts = [
            number(f"{path}norm.eps"), where(f"{path}norm.multiplier"), where(f"{path}norm.shift"),
            number(f"{path}norm.limit"), matrix(f"{mixer}in_proj"), where(f"{mixer}act.table"),
            matrix(f"{mixer}x_proj"), matrix(f"{mixer}dt_proj"),
            where(f"{scan}delta"), where(f"{scan}decay"), where(f"{scan}silu"),
            *(number(scan + name) for name in ("t", "j", "state", "skip", "multiplier", "y.shift", "shift", "limit")),
            matrix(f"{mixer}out_proj"), pair(f"{pool}multiplier"), pair(f"{pool}shift"),
            number(f"{pool}limit"), "{" + gdd(f"{path}GDDMLP.", "fc_sc", "add_scale") + ",\n     "
            + gdd(f"{path}GDDMLP.", "fc_sf", "add_shift") + "}",
            where(f"{path}GDDMLP.gate.scale"), where(f"{path}GDDMLP.gate.shift"),
        ]  # fmt: skip
        return "  {" + ", ".join(parts) + "}"

    widest = max(2 * found["E"], found["R"] + 2 * found["N"] + found["E"], found["D"])
    act = "encoder.act.in."
    constants: dict[str, Any] = {
        **found, "WIDEST": widest, "STANDARDIZE": number("standardize.multiplier"),
        "STANDARDIZE_LIMIT": number("standardize.limit"), "RSQRT": where("rsqrt.table"),
        "PE": where("patch_embedding.position_embedding.pe"), "ACT": where("encoder.act.table"),
        "ACT_BIAS": number(f"{act}bias"), "ACT_M": number(f"{act}multiplier"), "ACT_S": number(f"{act}shift"),
        "ACT_LIMIT": number(f"{act}limit"),
    }  # fmt: skip
    defines = "\n".join(f"#define CMAMBA_{name} {value}" for name, value in constants.items())
    blocks = ",\n".join(block(i) for i in range(found["BLOCKS"]))
    return (
        f"/* Made from the QSpec {spec.digest}; do not edit. What ends in u is a place in weights.bin, in bytes. */\n"
        f"#ifndef CMAMBA_PARAMS_H\n#define CMAMBA_PARAMS_H\n\n#include <stdint.h>\n\n{defines}\n\n{_TYPES}\n"
        f"static const sf_matrix_t CMAMBA_EMBEDDING = {matrix('patch_embedding.value_embedding')};\n"
        f"static const sf_matrix_t CMAMBA_HEAD = {matrix('head.linear')};\n"
        f"static const sf_block_t CMAMBA_BLOCK[CMAMBA_BLOCKS] = {{\n{blocks}}};\n\n#endif\n"
    )


def _take(arrays: Arrays, name: str) -> NDArray[np.integer]:
    if name not in arrays:
        raise ConfigError(f"the integers of the network lack {name!r}; lower its weights anew")
    return arrays[name]


def _literal(value: Any) -> str:
    whole = int(value)
    return f"{whole}LL" if abs(whole) >= 2**31 else str(whole)
