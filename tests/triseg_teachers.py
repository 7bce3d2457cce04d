"""A small network on codes that has learned a little, in a file as the recipes read it, and images for it."""

from pathlib import Path

import torch
import torch.nn.functional as F

from sparseflow.compress.quantize import calibrate, prepare_qat
from sparseflow.data import ImageSet, Sealed, Splits
from sparseflow.nn import models
from sparseflow.nn.models import save_checkpoint
from sparseflow.nn.models.checkpoint import round_half
from sparseflow.recipes.triseg.checkpoint import Images, save_qat
from sparseflow.recipes.triseg.teacher import FLOAT, QAT

CLASSES = tuple("abcdefghij")
IMAGES = Images(shape=(3, 32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), classes=CLASSES)


def images(count: int, *, split: str = "train", seed: int = 0) -> ImageSet:
    """Return images whose class is the place and colour of a bright square, under noise."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=g)
    pixels = torch.randint(60, 140, (count, 3, 32, 32), generator=g)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        top, left = 10 * (label % 3), 10 * (label // 3 % 3)
        image[label % 2, top : top + 10, left : left + 10] += 100
        image[2] += 10 * (label == 9)
    return ImageSet(
        name="squares", split=split, images=pixels.clamp(0, 255).to(torch.uint8), labels=labels, classes=CLASSES,
        mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0),
    )  # fmt: skip


def splits(size: int = 64) -> Splits:
    """Return all four parts, of images that differ."""
    train, calib, val = (images(size, split=s, seed=i) for i, s in enumerate(("train", "calib", "val")))
    return Splits(train=train, calib=calib, val=val, test=Sealed(lambda: images(size, split="test", seed=3)))


def save_teacher(out: Path, *, model: str = "lenet5", steps: int = 30) -> Path:
    """Train for a moment, and write the checkpoints of a network of the zoo, in float32 and on codes, into a folder."""
    torch.manual_seed(0)
    net = models.build(model)
    data = images(256, seed=9)
    x = (data.images.float() / 255 - 0.5) / 0.25
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(steps):
        part = slice(64 * (step % 4), 64 * (step % 4) + 64)
        optimizer.zero_grad()
        F.cross_entropy(net(x[part]), data.labels[part]).backward()
        optimizer.step()
    round_half(net.eval())
    save_checkpoint(out / FLOAT.format(model=model), net.eval(), name=model, arguments={}, record={"val_accuracy": 0.5})
    qat = prepare_qat(net.eval(), x[:8])
    calibrate(qat, [x[:64]])
    path = out / QAT.format(model=model)
    save_qat(path, qat, model=model, arguments={}, images=IMAGES, record={"val_accuracy": 0.5})
    return path
