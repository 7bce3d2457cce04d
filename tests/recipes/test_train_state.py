import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.train_state import resume, save_state, write


def run(kind=torch.optim.AdamW):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = kind(net.parameters(), lr=0.1)
    net(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    return net, optimizer


def test_a_run_goes_on_where_it_stopped(tmp_path):
    net, optimizer = run()
    (tmp_path / "metrics.jsonl").write_text("a\nb\nc\n")
    save_state(tmp_path, "who", net, optimizer, 2)
    other = nn.Linear(3, 2)
    resumed = torch.optim.AdamW(other.parameters(), lr=0.1)
    assert resume(tmp_path, "who", other, resumed) == 2
    assert (tmp_path / "metrics.jsonl").read_text() == "a\nb\n"
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    want = optimizer.state_dict()["state"]
    got = resumed.state_dict()["state"]
    assert all(torch.equal(want[i][k], got[i][k]) for i in want for k in want[i])


def test_without_a_state_it_starts_afresh(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("old\n")
    assert resume(tmp_path, "who", *run()) == 0
    assert not (tmp_path / "metrics.jsonl").exists()


def test_another_run_is_refused(tmp_path):
    save_state(tmp_path, "who", *run(), 1)
    with pytest.raises(ConfigError, match="another configuration"):
        resume(tmp_path, "someone", *run())


@pytest.mark.parametrize("keep", [0, 7, 100])
def test_a_cut_state_is_named(tmp_path, keep):
    save_state(tmp_path, "who", *run(), 1)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged"):
        resume(tmp_path, "who", *run())


def test_text_is_written_whole(tmp_path):
    write(tmp_path / "a.json", "é")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "é"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
