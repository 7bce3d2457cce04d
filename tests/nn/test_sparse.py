"""What the sparse layers share: adoption of a layer, and fresh rows."""

import copy

import pytest
import torch
from torch import nn

from sparseflow.errors import UnsupportedError
from sparseflow.nn.sparse_conv import SparseConv2d


def test_adopts_attributes_but_not_the_class() -> None:
    conv = nn.Conv2d(2, 3, 3)
    conv.note = "kept"  # type: ignore[assignment]
    sparse = SparseConv2d.from_dense(conv)
    assert sparse.note == "kept"
    assert type(conv) is nn.Conv2d
    assert conv.state_dict().keys() == sparse.state_dict().keys()


def test_rows_are_packed_once() -> None:
    sparse = SparseConv2d(2, 3, 3, kernel="event").eval()
    assert sparse.rows_for("event") is sparse.rows_for("event")
    before = sparse.rows_for("event")
    with torch.no_grad():
        sparse.weight.add_(1.0)
    assert sparse.rows_for("event") is not before


@torch.no_grad()
def test_training_packs_anew_even_what_was_written_through_data() -> None:
    sparse, x = SparseConv2d(2, 3, 3, kernel="event").eval(), torch.ones(1, 2, 8, 8)
    before = sparse(x)
    sparse.train()
    sparse.weight.data.mul_(2.0)
    assert not torch.equal(sparse.eval()(x), before)


def test_an_unknown_kernel_raises() -> None:
    with pytest.raises(UnsupportedError, match="no kernel 'warp'"):
        SparseConv2d(2, 3, 3, kernel="warp").eval()(torch.zeros(1, 2, 8, 8))


def test_chooses_dense_in_training_and_for_other_types() -> None:
    sparse = SparseConv2d(2, 3, 3, kernel="event")
    assert sparse.train().choose(torch.zeros(1, 2, 8, 8)) == "dense"
    assert sparse.eval().choose(torch.zeros(1, 2, 8, 8).double()) == "dense"
    assert sparse.choose(torch.zeros(1, 2, 8, 8)) == "event"
    assert sparse.choose(torch.zeros(1, 2, 8, 8, device="meta")) == "dense"
    assert copy.deepcopy(sparse).to("meta")(torch.zeros(1, 2, 8, 8, device="meta")).shape == (1, 3, 6, 6)
