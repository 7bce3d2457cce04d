"""Convolutional networks for small images, under the layer names of their papers, as `features.conv1`."""

from sparseflow.nn.models.convnets.blocks import ConvBlock, Fire, LinearBlock, Residual
from sparseflow.nn.models.convnets.chain import (
    ConvNet,
    alexnet,
    lenet5,
    mobilenetv1,
    nin,
    squeezenet,
    vgg16,
    vgg19,
)
from sparseflow.nn.models.convnets.resnet import ResNet, resnet18

__all__ = [
    "ConvBlock",
    "ConvNet",
    "Fire",
    "LinearBlock",
    "ResNet",
    "Residual",
    "alexnet",
    "lenet5",
    "mobilenetv1",
    "nin",
    "resnet18",
    "squeezenet",
    "vgg16",
    "vgg19",
]
