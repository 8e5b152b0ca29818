"""Corpora beyond memory: files of any size into a folder of annotated shards.

    annotate_corpus(["abstracts/"], "annotated", Recipe(labels=("drug", "disease")))

A run that was stopped, by whatever, goes on where it was: every document comes out
once. `run_on_ray` gives the work to several processes or machines.
"""

from .annotating import Runner, Summary, annotate_corpus
from .on_ray import run_on_ray
from .recipe import Recipe

__all__ = ["Recipe", "Runner", "Summary", "annotate_corpus", "run_on_ray"]
