"""Tri-segment recipes: train a network, quantise it, find the codes of its activations, and measure what they cost."""
