"""Feed sparseflow bad input: each time a clear word, and never a model or a folder that is half changed.

python -m benchmarks.bad_input [--json] [--only CASE] [--out FILE]

The demonstration runs in processes of its own; Ctrl-C is a real SIGINT to them.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sparseflow
from sparseflow.errors import SparseFlowError
from sparseflow.nn.neurons import IFNode, LIFNode
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

Faults = list[str]
PATIENCE_S = 180.0
CLEAN_EXIT = {"bad input": 2, "interrupt": 130}


class Witness:
    """What a model was: modules and their types, modes, hooks, and every bit of its state."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.before = model, self._look(model)

    @staticmethod
    def _look(model: nn.Module) -> dict[str, Any]:
        seen: dict[str, Any] = {
            f"module {name}": (id(m), type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
            for name, m in model.named_modules()
        }
        # As bytes, since a NaN is not equal to itself.
        return seen | {f"state {k}": v.detach().clone().numpy().tobytes() for k, v in model.state_dict().items()}

    def changes(self) -> Faults:
        """Return what is not as it was."""
        now = self._look(self.model)
        return [f"{key} changed" for key in self.before.keys() | now.keys() if self.before.get(key) != now.get(key)]


class Net(nn.Module):
    """Two convolutions with spikes before each; `conv` runs twice if asked to."""

    def __init__(self, *, twice: bool = False) -> None:
        super().__init__()
        self.stem, self.a = nn.Conv2d(3, 8, 3, padding=1), LIFNode(v_threshold=0.1)
        self.conv, self.b = nn.Conv2d(8, 8, 3, padding=1), IFNode(v_threshold=0.1)
        self.last, self.twice = nn.Conv2d(8, 4, 1), twice

    def forward(self, x: Tensor) -> Tensor:
        """Return one map a class."""
        x = self.b(self.conv(self.a(self.stem(x))))
        out: Tensor = self.last(self.conv(x) if self.twice else x)
        return out


def refuses(model: nn.Module, sample: Any, *words: str) -> Faults:
    """Return what is wrong if optimize should raise one of our errors that says these words."""
    witness = Witness(model)
    try:
        sparseflow.optimize(model, sample)
    except SparseFlowError as e:
        return [f"the message lacks {word!r}: {e}" for word in words if word not in str(e)] + witness.changes()
    except Exception as e:
        return [f"an error that is not ours: {type(e).__name__}: {e}", *witness.changes()]
    return ["nothing was raised", *witness.changes()]


def reports(model: nn.Module, sample: Tensor, layer: str, words: str, **settings: Any) -> Faults:
    """Return what is wrong if optimize should work, and refuse one layer with these words in the report."""
    witness = Witness(model)
    made, report = sparseflow.optimize(model, sample, report=True, **settings)
    found = witness.changes()
    if not any(r.layer == layer and words in r.reason for r in report.refusals):
        found.append(f"no refusal of {layer or 'the model'!r} says {words!r}: {[r.reason for r in report.refusals]}")
    if layer and type(made.get_submodule(layer)) is not type(model.get_submodule(layer)):
        found.append(f"{layer} was replaced all the same")
    with torch.no_grad():
        close = torch.allclose(made(sample), model(sample), rtol=1e-4, atol=1e-4)
    return found if close else [*found, "the model that came back computes something else"]


def no_spikes() -> Faults:
    """A model without a spiking neuron."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    return reports(model, torch.rand(1, 3, 12, 12), "", "no spiking neuron")


def wrong_shape() -> Faults:
    """A sample with the wrong number of channels."""
    return refuses(Net().eval(), torch.rand(2, 5, 8, 8), "(2, 5, 8, 8)", "3 channels")


def nan_weights() -> Faults:
    """One weight is NaN, with a sample and without one."""
    model = Net().eval()
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = float("nan")
    return refuses(model, torch.rand(2, 3, 8, 8), "conv.weight", "NaN") + refuses(model, None, "conv.weight")


def used_twice() -> Faults:
    """One convolution reads from two places."""
    return reports(Net(twice=True).eval(), torch.rand(2, 3, 8, 8), "conv", "several places", policy="always")


def scripted() -> Faults:
    """A scripted module, whose inside cannot be seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval())
    return refuses(model, torch.rand(1, 3, 4, 4), "scripted")


def interrupted_call() -> Faults:
    """A SIGINT while optimize runs the model, at every stage that does."""
    found, at = [], 0
    while True:
        at += 1
        model, calls = Net().eval(), [0]

        def strike(calls: list[int] = calls, at: int = at) -> None:
            calls[0] += 1
            if calls[0] == at:
                signal.raise_signal(signal.SIGINT)

        model.stem = _Struck(model.stem, strike)
        witness = Witness(model)
        try:
            sparseflow.optimize(model, torch.rand(2, 3, 8, 8))
        except KeyboardInterrupt:
            found += [f"after call {at}: {change}" for change in witness.changes()]
        else:
            return found if calls[0] < at else [*found, f"the SIGINT of call {at} was swallowed"]
        at = at * 2


class _Struck(nn.Module):
    """A layer that tells of every call; copies tell the same listener."""

    def __init__(self, layer: nn.Module, tell: Callable[[], None]) -> None:
        super().__init__()
        self.layer, self.tell = layer, tell

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        self.tell()
        out: Tensor = self.layer(x)
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Struck":
        import copy

        return _Struck(copy.deepcopy(self.layer, memo), self.tell)


def unwritable_folder() -> Faults:
    """A run folder that cannot be made: said before any work, in one line."""
    done = subprocess.run(_demo("/proc/nowhere"), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    found = [] if done.returncode == CLEAN_EXIT["bad input"] else [f"exit status {done.returncode}"]
    said = done.stderr.strip()
    if "/proc/nowhere" not in said or "Traceback" in said or len(said.splitlines()) != 1:
        found.append(f"not one clear line: {said[-500:]}")
    return found


def interrupted_demo() -> Faults:
    """A SIGINT to the demonstration in each of its first phases: no file, no traceback, exit status 130."""
    found = []
    for phase in ("trace, choose a kernel", "classify with both networks", "time the best"):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            found += [f"in the phase {phase!r}: {fault}" for fault in _interrupt(out, phase)]
    return found


def _interrupt(out: Path, phase: str) -> Iterator[str]:
    log = out.with_suffix(".log")
    with log.open("wb") as sink:
        child = subprocess.Popen(_demo(str(out)), stdout=sink, stderr=subprocess.STDOUT)
    try:
        ends = time.monotonic() + PATIENCE_S
        while not (struck := phase in _read(log)) and child.poll() is None and time.monotonic() < ends:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        status = child.wait(PATIENCE_S)
    finally:
        child.kill()
        child.wait()
    said = _read(log)
    if not struck:
        yield f"it never came there: {said[-300:]}"
    if status != CLEAN_EXIT["interrupt"]:
        yield f"exit status {status}"
    if "Traceback" in said or "interrupted" not in said:
        yield f"no clear word: {said[-300:]}"
    if out.exists() and any(out.iterdir()):
        yield f"files were left: {sorted(p.name for p in out.iterdir())}"


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _demo(out: str) -> list[str]:
    # The phases are shown as they begin only on a terminal; elsewhere as they end.
    code = "from rich import console; console.Console.is_terminal = True; from sparseflow.cli import app; app()"
    return [sys.executable, "-c", code, "demo", "--quick", "--out", out]


CASES: dict[str, Callable[[], Faults]] = {
    f.__name__.replace("_", " "): f
    for f in (
        no_spikes,
        wrong_shape,
        nan_weights,
        used_twice,
        scripted,
        interrupted_call,
        unwritable_folder,
        interrupted_demo,
    )
}


def main(argv: list[str] | None = None) -> int:
    """Run the cases, print the checks, and return 0 only if every one holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", action="append", choices=sorted(CASES), help="a case; may be repeated")
    parser.add_argument("--out", help="file for the JSON")
    chosen = parser.parse_args(argv)
    if chosen.out:
        prepare_folder(Path(chosen.out).parent)
    torch.manual_seed(0)
    # What a shell starts in the background ignores the signal that is tried here, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    checks, found = [], {}
    for name, case in CASES.items():
        if chosen.only and name not in chosen.only:
            continue
        try:
            found[name] = case()
        except Exception as e:
            found[name] = [f"{type(e).__name__}: {e}"]
        checks.append(
            Check(show="6", name=f"{name}: faults", value=len(found[name]), unit="faults", rule="==", bound=0)
        )
        print(f"{name}: {'; '.join(found[name]) or 'clear'}", file=sys.stderr)
    body = checks_body(checks, bench="bad-input", environment=describe(), faults=found)
    text = json.dumps(body, indent=1, allow_nan=False)
    if chosen.out:
        write_atomic(chosen.out, text)
    if chosen.json:
        print(text)
    return 0 if body["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
