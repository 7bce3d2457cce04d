"""A network of one's own, for the commands of `sparseflow triseg`: residual, depthwise, and with a concatenation.

python examples/triseg_own_network.py

shows the places in it whose codes can take three values. All commands take it by the name of its function:

sparseflow triseg zoo examples/triseg_own_network.py:build
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparseflow.compress.quantize import find_sites
from sparseflow.trace import capture


class OwnNetwork(nn.Module):
    """Two branches, a depthwise residual block, and a small head.

    Args:
        num_classes: outputs.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.wide, self.narrow = nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(24, 24, 1)
        self.depthwise, self.pointwise = nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.Conv2d(48, 48, 1)
        self.norm = nn.BatchNorm2d(48)
        self.hidden, self.head = nn.Linear(48 * 16, 64), nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return a number for each class."""
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = torch.cat([F.relu(self.wide(x)), F.relu(self.narrow(x))], 1)
        x = F.max_pool2d(x, 2)
        x = F.relu(x + self.norm(self.pointwise(F.relu(self.depthwise(x)))))
        x = F.max_pool2d(x, 2).flatten(1)
        out: Tensor = self.head(F.relu(self.hidden(x)))
        return out


def build(num_classes: int = 10) -> nn.Module:
    """Return the network with random weights."""
    return OwnNetwork(num_classes)


def main() -> None:
    """Run the example."""
    torch.manual_seed(0)
    sites = find_sites(capture(build().eval(), torch.randn(2, 3, 32, 32)))
    print(f"{len(sites)} activations of {sites.model} can take three values: {', '.join(sites.names)}")
    for refusal in sites.refusals:
        print(f"  {refusal.layer} cannot: {refusal.reason}")


if __name__ == "__main__":
    main()
