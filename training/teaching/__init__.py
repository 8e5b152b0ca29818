"""Asking a large model, and losing nothing: what `training.teacher` is made of."""
