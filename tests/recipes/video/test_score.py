from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sparseflow.errors import MeasurementError
from sparseflow.recipes.video.score import score


class Fixed:
    """Clips whose only pixel is the number of their clip."""

    classes, channels, synthetic = tuple("abcdefg"), 1, True

    def __init__(self, labels, videos):
        self.labels, self.videos = labels, videos

    def __len__(self):
        return max(self.videos) + 1

    def every(self, size):
        for i in range(0, len(self.labels), size):
            part = slice(i, i + size)
            x = torch.arange(len(self.labels))[part].view(-1, 1, 1, 1, 1)
            yield x, torch.tensor(self.labels[part]), torch.tensor(self.videos[part])

    def scale(self, clips):
        return clips.float()


class Table(nn.Module):
    """Answers from a table; drops a quarter of the tokens of even clips and none of others."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x, return_intermediate):
        assert return_intermediate
        assert not self.training
        index = x.flatten().long()
        share = (index % 2 == 0).float().mean() / 4
        stats = {f"sparsity_{k}": share if k == "token" else torch.zeros(()) for k in ("token", "head", "ch", "block")}
        return self.logits[index], {"ast_stats": stats}


def one_hot(*labels):
    return [[float(c == label) for c in range(7)] for label in labels]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_the_clips_of_a_video_answer_together(size):
    # Video 0: one clip right and sure, one wrong and less so. Video 1: wrong. Video 2: right.
    logits = one_hot(3, 4, 5, 6)
    logits[0][3] = 3.0
    model = Table(logits).train()
    found = score(model, Fixed([3, 3, 1, 6], [0, 0, 1, 2]), batch_size=size, cast=nullcontext)
    assert model.training
    assert (found.right, found.videos, found.clips) == (2, 3, 4)
    assert found.top1 == pytest.approx(2 / 3)
    assert found.low < found.top1 < found.high
    assert found.keeps == pytest.approx({"token": 0.875, "head": 1.0, "ch": 1.0, "block": 1.0})


def test_wilson():
    found = score(Table(one_hot(*[0] * 90, *[1] * 10)), Fixed([0] * 100, list(range(100))), cast=nullcontext)
    assert (found.low, found.high) == (pytest.approx(0.8256, abs=1e-3), pytest.approx(0.9448, abs=1e-3))


def test_what_is_not_finite_is_no_score():
    model = Table([[float("nan")] * 7])
    with pytest.raises(MeasurementError, match="not finite"):
        score(model, Fixed([0], [0]), cast=nullcontext)
