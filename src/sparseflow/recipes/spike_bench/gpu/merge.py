"""Join the records of calls that ran side by side, one a GPU, into the record of one visit."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.coverage import coverage_checks
from sparseflow.recipes.spike_bench.gpu.nets import CLAIMS
from sparseflow.recipes.spike_bench.gpu.network import BATCHES
from sparseflow.recipes.spike_bench.gpu.settings import STAGES
from sparseflow.recipes.spike_bench.gpu.sources import LEFT_OUT, ROOT, agreed
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["join", "joins", "merge"]

SAME = ("bench", "target", "device", "quick", "versions")
Stage = dict[str, Any]


def merge(paths: Sequence[str], out: str, *, root: Path = ROOT) -> dict[str, Any]:
    """Join records into one file and return it; a record that is not there fails a check.

    A stage is in one of the records, or in several that hold different parts of
    it. The records may be of several commits where every stage has the same
    sources at its own commit and at that of the latest record, which the whole
    is then said to be of; its stages name their own. The file is written whole
    or not at all, and the same records give the same file again.

    Args:
        paths: files of the records.
        out: the file of the whole; it is replaced.
        root: the repository that holds the commits, where there are several.

    Raises:
        ConfigError: the records differ in device, versions, kind or sources, or two hold the same part.
        DataError: none can be read, a commit is not in the repository, or the file cannot be written.
    """
    bodies, lost = _read(paths)
    if not bodies:
        raise DataError(f"none of {', '.join(paths)} is a record of this bench; the calls that write them have failed")
    _one_kind(bodies)
    head = max(bodies.values(), key=lambda body: str(body.get("when")))
    sources = agreed(bodies, str(head.get("commit")), root)
    stages: dict[str, Stage] = {}
    for name in STAGES:
        found = [(path, body["stages"][name]) for path, body in bodies.items() if name in body["stages"]]
        if found:
            stages[name] = {k: v for k, v in join(name, found).items() if k != "sources"}
    checks = [check for stage in stages.values() for check in stage["checks"]]
    checks += [check.to_dict() for check in (*lost, *_missing(stages))]
    body = {
        "checks": checks,
        "ok": bool(checks) and all(c["ok"] for c in checks) and not head.get("quick"),
        **{k: v for k, v in head.items() if k not in ("checks", "ok", "stages", "config", "when")},
        "when": min(str(body.get("when")) for body in bodies.values()),
        "commits": {Path(path).stem: body.get("commit") for path, body in bodies.items()},
        "sources": sources,
        "left_out": LEFT_OUT if sources else {},
        "config": {Path(path).stem: body.get("config") for path, body in bodies.items()},
        "stages": stages,
    }
    prepare_folder(Path(out).parent)
    write_atomic(Path(out), json.dumps(body, indent=1, allow_nan=False) + "\n")
    return body


def joins(paths: Sequence[str], *, device: str, commit: str, root: Path = ROOT) -> None:
    """See whether records of earlier calls can be joined with those of a run; half a record says so when it is joined.

    Args:
        paths: files of the records.
        device: name of the run's device.
        commit: the run's commit.
        root: the repository that holds the commits, where there are several.

    Raises:
        ConfigError: a record is of another device, or of other sources; says which.
        DataError: a record is of another commit, and the repository is not here.
    """
    bodies, _ = _read(paths)
    for path, body in bodies.items():
        if body.get("device") != device:
            raise ConfigError(f"{path} is of device {body.get('device')!r}, this run of {device!r}")
    agreed(bodies, commit, root)


def join(name: str, found: Sequence[tuple[str, Stage]]) -> Stage:
    """Return one stage of several parts.

    Args:
        name: the stage.
        found: file and stage of each part.

    Raises:
        ConfigError: two of the files hold the same part.
    """
    whole: Stage = {}
    origin: dict[str, str] = {}
    for path, stage in found:
        for part in stage.get("parts") or ["the whole"]:
            if part in origin or "the whole" in origin or (part == "the whole" and origin):
                other = origin.get(part) or next(iter(origin.values()))
                raise ConfigError(f"stage {name}, {part}, is in {other} and in {path}; give one of the two")
            origin[part] = path
    for _, stage in found:
        for key, value in stage.items():
            if key == "wall_s":
                whole[key] = max(whole.get(key, 0.0), value)
            elif isinstance(value, list):
                whole[key] = [*whole.get(key, []), *value]
            elif isinstance(value, dict):
                whole[key] = _both(whole.get(key, {}), value)
            else:
                whole.setdefault(key, value)
    if name == "coverage":
        whole["checks"] = [check.to_dict() for check in coverage_checks(whole["rows"])] + [
            check for check in whole["checks"] if check["show"] == "all"
        ]
    return whole


def _read(paths: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[Check]]:
    bodies: dict[str, dict[str, Any]] = {}
    lost: list[Check] = []
    for path in paths:
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(body["stages"], dict):
                raise TypeError("its stages are no object")
            bodies[path] = body
        except (OSError, ValueError, KeyError, TypeError) as e:
            what = "written" if isinstance(e, FileNotFoundError) else f"whole ({type(e).__name__})"
            lost.append(_held(f"record {Path(path).stem} is {what}"))
    return bodies, lost


def _one_kind(bodies: Mapping[str, Mapping[str, Any]]) -> None:
    first, head = next(iter(bodies.items()))
    for path, body in bodies.items():
        for name in SAME:
            if body.get(name) != head.get(name):
                raise ConfigError(
                    f"{path} has {name} {body.get(name)!r}, {first} {head.get(name)!r}; records of one whole agree"
                )


def _missing(stages: dict[str, Stage]) -> Iterable[Check]:
    for name in STAGES:
        if name not in stages:
            yield _held(f"stage {name} ran")
            continue
        parts = stages[name].get("parts") or []
        expected: list[str] = []
        if name == "network" and parts:
            expected = [f"{claim.builder}:{batch}" for claim in CLAIMS for batch in BATCHES]
        if name == "coverage" and parts:
            count = int(parts[0].rpartition("/")[2])
            expected = [f"{i + 1}/{count}" for i in range(count)]
        yield from (_held(f"stage {name}, {part}, ran") for part in expected if part not in parts)


def _both(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    lists = {k: [*a[k], *b[k]] for k in a.keys() & b.keys() if isinstance(a[k], list) and isinstance(b[k], list)}
    dicts = {k: {**a[k], **b[k]} for k in a.keys() & b.keys() if isinstance(a[k], dict) and isinstance(b[k], dict)}
    return {**a, **b, **lists, **dicts}


def _held(what: str) -> Check:
    return Check(show="all", name=what, value=0, unit="runs", rule=">=", bound=1)
