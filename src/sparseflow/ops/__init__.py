"""One folder per operator: truth, kernels, cost formula, schedule space."""
