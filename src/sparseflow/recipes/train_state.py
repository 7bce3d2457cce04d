"""The state of a training run on disk: saved whole or not at all, and gone on with."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sparseflow.errors import ConfigError, DataError

__all__ = ["resume", "save_state", "write"]


def save_state(out: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """Save weights, optimizer and the next epoch to `out/state.safetensors`.

    Args:
        out: the run's folder.
        identity: what makes the run's configuration another one.
        model: its weights.
        optimizer: its state.
        epoch: the epoch to go on with.
    """
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value.detach().cpu().contiguous()
    partial = out / ".state.safetensors.partial"
    partial.write_bytes(save(tensors, {"config": identity, "epoch": str(epoch)}))
    partial.replace(out / "state.safetensors")


def resume(out: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the state in `out`, if there is one, and return the epoch to go on with.

    Raises:
        ConfigError: the run in `out` has another configuration.
        DataError: the state is damaged.
    """
    path = out / "state.safetensors"
    if not path.exists():
        (out / "metrics.jsonl").unlink(missing_ok=True)
        return 0
    try:
        with safe_open(path, framework="pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        epoch = int(meta["epoch"])
        found = meta["config"]
    except (SafetensorError, OSError, KeyError, ValueError) as e:
        raise DataError(f"{path} is damaged: {e}; remove it to start again") from e
    if found != identity:
        raise ConfigError(f"{out} holds a run with another configuration; choose another folder or remove it")
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    body = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            body["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(body)
    metrics = out / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.exists() else []
    write(metrics, "".join(lines[:epoch]))
    return epoch


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
