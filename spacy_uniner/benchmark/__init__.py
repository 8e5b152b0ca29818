"""The benchmark: 49 test sets, any `nlp`, honest scores. `python -m spacy_uniner.benchmark`."""

from .score import official_scores

__all__ = ["official_scores"]
