"""sparseflow takes a PyTorch model and makes it measurably cheaper on real hardware, with proof."""
