"""Scripts that make students; run them as `python -m training.NAME`."""
