"""Run one benchmark: tests first, numbers after, the record last.

python -m benchmarks.run spike-cpu [-- more options for the command]
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.registry import BENCHMARKS

RESULTS = Path(__file__).parent / "results"


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: that of the gate if it is red, else that of the benchmark."""
    known = {b.name: b for b in BENCHMARKS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(known))
    parser.add_argument("more", nargs="*", help="options handed to the benchmark's command")
    chosen = parser.parse_args(argv)
    benchmark = known[chosen.name]
    gate = subprocess.run([sys.executable, "-m", "pytest", "-q", *benchmark.gate], check=False)
    if gate.returncode:
        print(f"{benchmark.name}: tests are red, so no number is taken", file=sys.stderr)
        return gate.returncode
    out = RESULTS / benchmark.result
    command = [*benchmark.command, "--out", str(out), *chosen.more]
    if command[0] == "sparseflow":
        command = [str(Path(sys.executable).with_name("sparseflow")), *command[1:]]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
