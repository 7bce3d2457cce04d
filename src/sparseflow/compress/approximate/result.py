"""The file of a found network: the seed's JSON, key for key, and what it could not say."""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir.files import write_atomic
from sparseflow.ops.triseg import CODES, MODES, NAMES

__all__ = ["FOLDER", "SCHEMA", "Metrics", "TriSegResult", "eval_report"]

SCHEMA = 1
# Below the folder of all outputs, as the earlier project had it.
FOLDER = "tri_ppo_int_codes"
_KEYS = tuple(f"{name}_code" for name in NAMES)
_METRICS = ("acc_teacher", "acc_student", "acc_drop")
_MEND = "search again, or mend the file by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Accuracies in percent.

    Args:
        acc_teacher: of the INT8 network.
        acc_student: of the same network with the codes applied.
        acc_drop: what was lost, in points.
    """

    acc_teacher: float
    acc_student: float
    acc_drop: float

    @classmethod
    def of(cls, acc_teacher: float, acc_student: float) -> "Metrics":
        """Return the metrics of two accuracies; the drop is their difference, free of binary dust.

        >>> Metrics.of(92.53, 91.0).acc_drop
        1.53
        """
        return cls(acc_teacher=acc_teacher, acc_student=acc_student, acc_drop=round(acc_teacher - acc_student, 9))


@dataclass(frozen=True, slots=True, kw_only=True)
class TriSegResult:
    """Codes of every site of a network, how they were chosen, and what they cost in accuracy.

    Args:
        layers: t1, v1, t2, v2, tmax by the name of the site, in the order of the network.
        backend: integer arithmetic that the network was trained for, as "fbgemm".
        model: name of the network, as "alexnet".
        selection: why this one was taken, see `select`.
        metrics: accuracies.
        overflow: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.
        split: images that the metrics were taken on, as "val"; None in files of the earlier project.

    Raises:
        ConfigError: no site, codes out of order (says which), or no such overflow.
    """

    layers: Mapping[str, tuple[int, int, int, int, int]]
    backend: str
    model: str
    selection: str
    metrics: Metrics
    overflow: str = "pass"
    split: str | None = None

    def __post_init__(self) -> None:
        """Check the codes."""
        if self.overflow not in MODES:
            raise ConfigError(f"overflow is {self.overflow!r}; expected one of {', '.join(MODES)}")
        if not self.layers:
            raise ConfigError("a result holds no layers; name at least one")
        for name, codes in self.layers.items():
            if reason := _disorder(codes):
                raise ConfigError(f"layer {name!r}: {reason}")

    @classmethod
    def of(cls, names: Sequence[str], codes: Tensor, **rest: Any) -> "TriSegResult":
        """Return the result for codes int64 `[L, 5]` of the sites `names`; `rest` are the other fields.

        Raises:
            ConfigError: another number of sites, or codes out of order.
        """
        if codes.shape != (len(names), len(NAMES)) or len(set(names)) < len(names):
            raise ConfigError(f"codes {tuple(codes.shape)} do not fit the {len(names)} sites {', '.join(names)}")
        return cls(layers={n: _five(row) for n, row in zip(names, codes.tolist(), strict=True)}, **rest)

    def codes(self, names: Sequence[str] | None = None) -> Tensor:
        """Return the codes int64 `[L, 5]` of the sites, in the order of `names` or of the file.

        Raises:
            ConfigError: a site that the result does not have.
        """
        wanted = list(self.layers) if names is None else list(names)
        if missing := [n for n in wanted if n not in self.layers]:
            raise ConfigError(f"the result has no layers {', '.join(missing)}; it has {', '.join(self.layers)}")
        return torch.tensor([self.layers[n] for n in wanted], dtype=torch.int64).view(-1, len(NAMES))

    def to_json(self) -> str:
        """Return the seed's JSON, its keys in its order, then `schema_version`, `overflow` and `split`."""
        body = {
            "layers": {name: dict(zip(_KEYS, codes, strict=True)) for name, codes in self.layers.items()},
            "backend": self.backend,
            "model": self.model,
            "selection": self.selection,
            "metrics": asdict(self.metrics),
            "schema_version": SCHEMA,
            "overflow": self.overflow,
            "split": self.split,
        }
        return json.dumps(body, indent=2, allow_nan=False) + "\n"

    def write(self, path: str | Path) -> Path:
        """Write the file, whole or not at all; its folder is made.

        Raises:
            DataError: the file or its folder cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise DataError(f"cannot make the folder {path.parent}: {e.strerror or e}; name another") from e
        return write_atomic(path, self.to_json())

    @classmethod
    def read(cls, path: str | Path, *, names: Sequence[str] | None = None, model: str | None = None) -> "TriSegResult":
        """Read a result, of this project or of the earlier one.

        Keys that the seed does not name are left alone, so that a file may hold notes.

        Args:
            path: the file.
            names: the sites of the network that it is for; each must be in the file and no other.
            model: name of that network.

        Raises:
            DataError: the file is missing, is no such JSON, or does not fit; names file, layer and mend.
        """
        body = _load(Path(path))
        try:
            schema = body.get("schema_version", SCHEMA)
            if type(schema) is not int or not 1 <= schema <= SCHEMA:
                raise DataError(f"schema_version is {schema!r}; this version reads {SCHEMA}, so update sparseflow")
            found = cls(
                layers={name: _layer(name, codes) for name, codes in _mapping(body, "layers").items()},
                backend=_text(body, "backend"),
                model=_text(body, "model"),
                selection=_text(body, "selection"),
                metrics=Metrics(**{key: _number(_mapping(body, "metrics"), key) for key in _METRICS}),
                overflow=_text(body, "overflow") if "overflow" in body else "pass",
                split=_text(body, "split") if body.get("split") is not None else None,
            )
            if names is not None:
                _match(found.layers, names)
            if model is not None and found.model != model:
                raise DataError(f"it is for model {found.model!r}, not {model!r}; name a file that was made for that")
        except (ConfigError, DataError) as e:
            raise DataError(f"{path}: {e}") from e
        return found


def eval_report(result: TriSegResult, config_path: str | Path, metrics: Metrics) -> str:
    """Return the seed's `eval_report.json`: the accuracies measured anew beside those in the file.

    Args:
        result: what the file holds.
        config_path: the file.
        metrics: the accuracies now.
    """
    body = {
        "model": result.model,
        "config_path": str(config_path),
        "backend": result.backend,
        "acc_baseline": metrics.acc_teacher,
        "acc_modified": metrics.acc_student,
        "acc_drop": metrics.acc_drop,
        "selection": result.selection,
        "metrics_in_config": asdict(result.metrics),
    }
    return json.dumps(body, indent=2, allow_nan=False) + "\n"


def _load(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror or e}; name a result of a search") from e
    except ValueError as e:
        raise DataError(f"{path} is no valid JSON: {e}; {_MEND}") from e
    if not isinstance(body, dict):
        raise DataError(f"{path} holds no JSON object; {_MEND}")
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(k for k in keys if keys.count(k) > 1)!r} stands twice")
    return body


def _disorder(codes: Sequence[int]) -> str | None:
    if len(codes) != len(_KEYS) or not all(type(c) is int and 0 <= c < CODES for c in codes):
        return f"codes are {tuple(codes)}; expected {', '.join(_KEYS)}, whole numbers of 0 to {CODES - 1}"
    for low, high in ((0, 2), (2, 4), (1, 3), (3, 4)):
        if codes[low] > codes[high]:
            return (
                f"{_KEYS[low]} {codes[low]} is above {_KEYS[high]} {codes[high]}; "
                "expected t1 <= t2 <= tmax and v1 <= v2 <= tmax"
            )
    return None


def _five(row: Sequence[int]) -> tuple[int, int, int, int, int]:
    t1, v1, t2, v2, tmax = row
    return t1, v1, t2, v2, tmax


def _layer(name: str, body: Any) -> tuple[int, int, int, int, int]:
    if not isinstance(body, dict) or (missing := [k for k in _KEYS if k not in body]):
        said = f"has no {', '.join(missing)}" if isinstance(body, dict) else "is no object"
        raise DataError(f"layer {name!r} {said}; expected the keys {', '.join(_KEYS)}, so {_MEND}")
    if other := [k for k in body if k not in _KEYS]:
        raise DataError(f"layer {name!r} has {', '.join(other)}; expected the keys {', '.join(_KEYS)} alone")
    return _five([body[k] for k in _KEYS])


def _mapping(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = body.get(key)
    if not isinstance(value, dict):
        raise DataError(f"{'no' if value is None else 'no object under'} {key!r}; {_MEND}")
    return value


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise DataError(f"{'no' if value is None else 'no text under'} {key!r}; {_MEND}")
    return value


def _number(body: Mapping[str, Any], key: str) -> float:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{'no' if value is None else 'no number under'} 'metrics.{key}'; {_MEND}")
    return float(value)


def _match(layers: Mapping[str, Any], names: Sequence[str]) -> None:
    unknown = [n for n in layers if n not in names]
    missing = [n for n in names if n not in layers]
    if unknown:
        near = difflib.get_close_matches(unknown[0], missing or names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"layer {unknown[0]!r} is no site of the network; {hint}there are {', '.join(names)}")
    if missing:
        raise DataError(f"no layer {', '.join(map(repr, missing))}, which the network has; search all its sites")
