"""From any text to passages: what `training.corpus` and others are made of."""
