"""Settings that every test runs under: few threads, fixed seeds, no network, no hidden zeros."""

import os

# Before torch is loaded: OpenMP reads these once. Spinning threads starve the other worker.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_THREADS = max(1, 2 // _WORKERS)
os.environ["OMP_NUM_THREADS"] = str(_THREADS)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "Agg")

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

torch.set_num_threads(_THREADS)

# Before Triton is loaded, which reads this once: without a CUDA device its kernels run in the interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

_NO_GPU = "needs a CUDA device, this machine has none"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked gpu where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=_NO_GPU))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Count the tests that only a CUDA device could run."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if _NO_GPU in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} GPU tests skipped: no CUDA device")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep records and host descriptions of the tests away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSEFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("SPARSEFLOW_RECORDS", raising=False)
        yield


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test read the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _torch_state() -> Iterator[None]:
    """Give back the global switches of torch that a test may turn."""
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that leave the machine; a browser on localhost is fine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}; tests run without a network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        out = make(*args, **kwargs)
        if out.is_floating_point() and out.device.type != "meta" and not out.requires_grad:
            out.fill_(float("nan"))
        return out

    return poisoned


@pytest.fixture
def nan_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what `torch.empty` and its kin return with NaN, so that an unwritten element shows."""
    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))
