"""Spiking neurons, layers and networks."""
