import pytest
import torch

from sparseflow.data import ImageSet
from sparseflow.errors import DataError


def make(n=10, **changes):
    body = {
        "name": "toy",
        "split": "test",
        "images": torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8),
        "labels": torch.arange(n) % 2,
        "classes": ("a", "b"),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.1),
    }
    return ImageSet(**{**body, **changes})


def test_batches_run_in_order_and_are_normalised():
    images = make()
    xs, ys = zip(*images.batches(4), strict=True)
    assert [len(x) for x in xs] == [4, 4, 2]
    assert torch.equal(torch.cat(ys), images.labels)
    want = (images.images[0, 2].float() / 255 - 0.3) / 0.1
    torch.testing.assert_close(xs[0][0, 2], want)


def test_take():
    assert len(make().take(3)) == 3
    assert len(make().take(None)) == 10
    for count in (0, 11):
        with pytest.raises(DataError, match="cannot take"):
            make().take(count)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": torch.zeros(9, dtype=torch.int64)},
        {"labels": torch.full((10,), 2)},
        {"images": torch.zeros(10, 3, 4, 4)},
        {"images": torch.zeros(10, 4, 4, dtype=torch.uint8)},
    ],
)
def test_what_does_not_fit_is_refused(changes):
    with pytest.raises(DataError, match="toy test"):
        make(**changes)


def test_batch_size():
    with pytest.raises(DataError, match="batch size"):
        next(make().batches(0))
