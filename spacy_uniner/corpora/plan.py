"""What a run is given, written down so that another can be told from it."""

import importlib.metadata
from typing import Any, Dict, Sequence

from .recipe import Recipe
from .records import Source


def make_plan(
    sources: Sequence[Source], recipe: Recipe, *, format: str, shard_size: int
) -> Dict[str, Any]:
    """Describe a run, so that another can be told from it.

    sources (Sequence[Source]): The input.
    recipe (Recipe): How the pipeline is made.
    format (str): Of shard files.
    shard_size (int): Documents of a shard.
    RETURNS (Dict[str, Any]): "inputs" and "settings", which must be the same to go on,
        and "made_with", which need not.
    """
    packages = ("spacy-uniner", "spacy")
    return {
        "inputs": [source.identity for source in sources],
        "settings": {**recipe.identity(), "format": format, "shard_size": shard_size},
        "made_with": {name: importlib.metadata.version(name) for name in packages},
    }


def compare(before: Any, now: Any) -> str:
    """Say where two runs differ.

    before (Any): What the first was given: a mapping, or a list of files.
    now (Any): What the second is given.
    RETURNS (str): The first difference; empty if there is none.
    """
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"{len(before)} file(s) there, {len(now)} now"
        pairs = zip(before, now)
        return next((told for a, b in pairs if (told := compare(a, b))), "")
    if before == now:
        return ""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return f"{before!r} there, {now!r} now"
    names = [n for n in {**before, **now} if before.get(n) != now.get(n)]
    file = f" of {now['file']!r}" if "file" in now and names != ["file"] else ""
    return "; ".join(
        f"`{n}`{file} {before.get(n)!r} there, {now.get(n)!r} now" for n in names
    )
