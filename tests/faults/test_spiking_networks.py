"""Earlier figures came from dead networks: nearly all-zero spikes look fast and compute nothing."""

import torch

from sparseflow import data
from sparseflow.nn import models
from sparseflow.recipes.spike_train import evaluate


def test_figures_come_from_a_living_network_on_real_images():
    model, _ = models.load_checkpoint("spiking_vgg9_cifar10")
    images = data.cifar10_subset().take(100)
    accuracy, density = evaluate(model, images, batch_size=50)
    assert accuracy > 0.8
    assert len(density) == 8
    assert all(0.02 <= value <= 0.40 for value in density.values())


def test_a_spike_layer_sees_bits_also_behind_its_pool():
    model, _ = models.load_checkpoint("spiking_vgg9_cifar10")
    seen = []
    model.features.conv3.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        model(next(data.cifar10_subset().batches(4))[0])
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}
