"""What CP-SAT proved about the problems of the mapping bench, which takes longer than the bench itself.

`python -m sparseflow.recipes.codesign.mapping_references` proves all anew.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sparseflow.errors import BudgetError, DataError
from sparseflow.hardware.mapping import MappingProblem, MappingSolver
from sparseflow.ir.files import write_atomic
from sparseflow.recipes.codesign.mapping_instances import random_problem

__all__ = ["FILE", "INSTANCES", "digest", "load_references", "prove"]

FILE = Path(__file__).parents[2] / "assets" / "codesign" / "mapping_references.json"
INSTANCES = 200
_FIELDS = ("lat_ms", "weight_mb", "activation_mb", "limit_mb", "usable", "traffic_bytes", "hop_ms", "link_bytes_per_s")


def digest(problem: MappingProblem) -> str:
    """Return a short name of a problem's numbers, in float32, whose rounding differs less between machines."""
    h = hashlib.sha256(problem.mode.encode())
    for name in _FIELDS:
        h.update(getattr(problem, name).astype("<f4").tobytes())
    return h.hexdigest()[:16]


def prove(seed: int, *, limits_s: Sequence[float] = (10.0, 30.0, 90.0), workers: int = 2) -> dict[str, Any]:
    """Return the best objective and bound of one problem, ms; limits grow while they differ by over .5 %.

    Of a balanced problem first a bound without transfers is proved, which is quick and near, for they cost little.
    """
    problem, start = random_problem(seed), time.perf_counter()
    found = MappingSolver("search", restarts=20).solve(problem)
    bound, optimal = 0.0, False
    tries = [(limit, True) for limit in limits_s]
    if problem.mode == "balanced":
        tries.insert(0, (limits_s[0], False))
    for limit, transfers in tries:
        solver = MappingSolver("cp_sat", limit_s=limit, workers=workers, transfers=transfers)
        try:
            exact = solver.solve(problem, hint=found.mapping)
        except BudgetError:
            continue
        if exact.cost.objective < found.cost.objective and not exact.cost.violations:
            found = exact
        bound, optimal = max(bound, exact.bound), exact.optimal
        if optimal or found.cost.objective <= 1.005 * bound:
            break
    objective = found.cost.objective
    return {
        "seed": seed,
        "digest": digest(problem),
        "segments": problem.segments,
        "slots": int(problem.usable.sum()),
        "mode": problem.mode,
        "objective": objective,
        "bound": min(bound, objective),
        "optimal": optimal,
        "seconds": round(time.perf_counter() - start, 2),
    }


def load_references(path: Path = FILE) -> list[dict[str, Any]]:
    """Return what was proved, one entry per problem.

    Raises:
        DataError: the file is missing, or is not of today's problems; says how to make it.
    """
    again = "prove them anew: python -m sparseflow.recipes.codesign.mapping_references"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise DataError(f"{path} has no references of mappings ({e}); {again}") from e
    rows: list[dict[str, Any]] = body["instances"]
    for row in rows:
        if digest(random_problem(row["seed"])) != row["digest"]:
            raise DataError(f"{path}: problem {row['seed']} is another one today; {again}")
    return rows


def _write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps({"solver": f"OR-Tools {metadata.version('ortools')} CP-SAT", "unit": "ms"})[:-1]
    write_atomic(path, f'{head}, "instances": [\n{lines}\n]}}\n')


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Prove all problems, and write what was proved after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--resume", action="store_true", help="keep what the file holds")
    args = parser.parse_args(argv)
    rows = load_references(args.out) if args.resume else []
    for seed in range(len(rows), args.instances):
        rows.append(prove(seed))
        _write(rows, args.out)
        gap = rows[-1]["objective"] / rows[-1]["bound"] - 1
        say(f"{seed}: {rows[-1]['objective']:.5f} ms, gap {100 * gap:.3f} %, {rows[-1]['seconds']} s")


if __name__ == "__main__":
    main()
