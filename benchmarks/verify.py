"""Check the committed records: complete, finite, and in agreement with their own targets.

python -m benchmarks.verify
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
RULES = {">=": lambda v, b: v >= b, "<=": lambda v, b: v <= b, "==": lambda v, b: v == b}


def faults(body: dict[str, Any]) -> list[str]:
    """Return what is wrong with one record; a check that fell short is no fault, a wrong "ok" is."""
    found = [f"no {key!r}" for key in ("checks", "environment") if not body.get(key)]
    for check in body.get("checks", []):
        missing = {"show", "name", "value", "unit", "target", "ok"} - set(check)
        if missing:
            found.append(f"check {check.get('name')!r} lacks {sorted(missing)}")
            continue
        rule, bound = check["target"].split()
        value = check["value"]
        holds = value is not None and math.isfinite(value) and RULES[rule](value, float(bound))
        if holds is not check["ok"]:
            found.append(f"check {check['name']!r} says ok={check['ok']} for {value} {check['target']}")
    return found


def main() -> int:
    """Print one line a record and return 1 if any is at fault."""
    bad = 0
    for path in sorted(RESULTS.glob("*.json")):
        body = json.loads(path.read_text(encoding="utf-8"))
        if "checks" not in body:
            print(f"{path.name}: a record without checks")
            continue
        found = faults(body)
        held = sum(c["ok"] for c in body["checks"])
        print(f"{path.name}: {held} of {len(body['checks'])} checks hold" + "".join(f"\n  {f}" for f in found))
        bad += bool(found)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
