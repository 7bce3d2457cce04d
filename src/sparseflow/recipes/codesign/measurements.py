"""The file of measured layers: JSON lines, appended as they come, so that a run that was cut off goes on."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from sparseflow.errors import DataError
from sparseflow.hardware.proxy import LayerSpec

__all__ = ["Measured", "Network", "Run", "append", "layer_body", "layer_from", "read"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the lines behind it have in common.

    Args:
        device: as the driver or the operating system names it.
        kind: "gpu" or "cpu".
        protocol: how latency, memory and power were measured.
        power_source: the meter.
        idle_w: power at rest, before the run; None where it was not read.
        commit: of the code.
        versions: of libraries, by name.
        clocks_mhz: of the device, at the start, where it tells.
    """

    device: str
    kind: str
    protocol: str
    power_source: str
    idle_w: float | None = None
    commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    clocks_mhz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One layer as it ran.

    Args:
        layer: what ran.
        lat_ms: median time of one call on the whole batch.
        iqr_ms: distance between the quartiles.
        mem_mb: parameters, inputs and the most that one call held beside them, 1e6 bytes; None where it was not read.
        power_w: mean power of the device while it ran over and over; None where the meter saw too little.
    """

    layer: LayerSpec
    lat_ms: float
    iqr_ms: float
    mem_mb: float | None
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A whole network as it ran, and the layers that stand for it.

    Args:
        name: of the network and its batch.
        layers: in the order in which they run.
        lat_ms: median time of one call.
        mem_mb: as of a layer.
        power_w: as of a layer.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    lat_ms: float
    mem_mb: float
    power_w: float | None = None


def layer_body(layer: LayerSpec) -> dict[str, Any]:
    """Return a layer as plain data, without what is at its default; shares are numbers."""
    body = {}
    for f in fields(layer):
        value = getattr(layer, f.name)
        if f.default is MISSING or value != f.default:
            body[f.name] = dict(value) if f.name == "attrs" else value
    return body


def layer_from(body: Mapping[str, Any]) -> LayerSpec:
    """Return the layer of `layer_body`.

    Raises:
        DataError: a field is missing or unknown, or no layer has these sizes.
    """
    try:
        return LayerSpec(**{**body, "attrs": tuple(dict(body.get("attrs", {})).items())})
    except (TypeError, ValueError) as e:
        raise DataError(f"not a layer: {e}") from e


def append(path: Path, entry: Run | Measured | Network) -> None:
    """Write one line at the end of a file.

    Raises:
        DataError: the file cannot be written.
    """
    body = {f.name: getattr(entry, f.name) for f in fields(entry)}
    if isinstance(entry, Measured):
        body = {"measured": layer_body(entry.layer), **body}
        body.pop("layer")
    elif isinstance(entry, Network):
        body = {"network": body.pop("name"), **body, "layers": [layer_body(s) for s in entry.layers]}
    else:
        body = {"run": SCHEMA, **asdict(entry)}
    line = json.dumps({k: _short(v) for k, v in body.items()}, allow_nan=False, separators=(",", ":"))
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as e:
        raise DataError(f"cannot write {path}: {e}; name a folder that exists") from e


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read(paths: Iterable[Path]) -> tuple[list[Run], list[Measured], list[Network]]:
    """Return what files hold; of a layer or network measured twice the last one, and the last power that was read.

    A last line that was cut off while it was written is left out.

    Raises:
        DataError: a file cannot be read, or a line is none of this schema; names file and line.
    """
    runs: list[Run] = []
    layers: dict[str, Measured] = {}
    networks: dict[str, Network] = {}
    for path in paths:
        for entry in _entries(path):
            if isinstance(entry, Run):
                runs.append(entry)
            elif isinstance(entry, Measured):
                old = layers.get(entry.layer.name)
                # A brief run reads no power; an earlier one may have.
                kept = old.power_w if entry.power_w is None and old is not None else entry.power_w
                layers[entry.layer.name] = replace(entry, power_w=kept)
            else:
                networks[entry.name] = entry
    return runs, list(layers.values()), list(networks.values())


def _entries(path: Path) -> Iterator[Run | Measured | Network]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(
            f"cannot read measurements from {path}: {e}; make them with: sparseflow codesign measure"
        ) from e
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith("\n"):
            return
        try:
            yield _entry(json.loads(line))
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise DataError(f"{path}, line {number}: not a measurement of schema {SCHEMA}: {e}") from e


def _entry(body: dict[str, Any]) -> Run | Measured | Network:
    if "run" in body:
        if body.pop("run") != SCHEMA:
            raise DataError("another schema; measure again")
        return Run(**body)
    if "network" in body:
        layers = tuple(layer_from(s) for s in body.pop("layers"))
        return _timed(Network(name=body.pop("network"), layers=layers, **body))
    return _timed(Measured(layer=layer_from(body.pop("measured")), **body))


_Entry = TypeVar("_Entry", "Measured", "Network")


def _timed(entry: _Entry) -> _Entry:
    """Return an entry whose figures are numbers that hardware can give; a fit takes their logarithms."""
    for name in ("lat_ms", "mem_mb", "power_w"):
        value = getattr(entry, name)
        if (value is None and name == "lat_ms") or (value is not None and not 0 < value < math.inf):
            raise ValueError(f"{name} is {value}; expected a number above 0; remove the line and measure again")
    return entry
