"""Benchmarks: a registry, a gated runner, and the committed records."""
