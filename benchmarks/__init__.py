"""Measurements: run as `python -m benchmarks.x`; each writes JSON to `results/`."""
