"""Make a spiking network faster with one call, and look at the evidence.

python examples/spiking_inference.py

Loads the trained network and the CIFAR-10 images that ship with sparseflow,
optimizes it for this machine, and compares answers and times.
"""

import time

import torch

import sparseflow
from sparseflow.data import cifar10_subset
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import load_checkpoint

IMAGES = 256
BATCH = 64


def classify(model: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the answer for each image, and the seconds that all of them took."""
    answers = []
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in images.split(BATCH):
            reset_net(model)
            answers.append(model(batch).argmax(1))
    return torch.cat(answers), time.perf_counter() - start


def main() -> None:
    """Run the example."""
    model, _ = load_checkpoint("spiking_vgg9_cifar10")
    subset = cifar10_subset()
    images = subset.normalize(subset.images[:IMAGES])
    labels = subset.labels[:IMAGES]

    fast, report = sparseflow.optimize(model, images[:BATCH], report=True)

    before, dense_s = classify(model, images)
    after, fast_s = classify(fast, images)
    print(f"{report.model} on {IMAGES} images of CIFAR-10, {torch.get_num_threads()} threads")
    for layer in report.layers:
        density = "" if layer.density is None else f"{layer.density:6.1%} of its inputs fire"
        print(f"  {layer.name:24} {layer.kernel:8} {density}")
    for refusal in report.refusals:
        print(f"  refused: {refusal.layer or 'the whole model'}: {refusal.reason}")
    print(f"right answers  {int((before == labels).sum())} before, {int((after == labels).sum())} after")
    print(f"same answers   {int((before == after).sum())} of {IMAGES}")
    print(f"time           {dense_s:.3f} s before, {fast_s:.3f} s after")


if __name__ == "__main__":
    main()
