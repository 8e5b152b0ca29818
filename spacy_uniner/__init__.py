"""Any kind of entity from any text, inside spaCy.

    nlp = spacy.blank("en")
    nlp.add_pipe("uniner", config={"labels": ["person", "medical condition"]})

Importing this package imports nothing heavy: the component, and spaCy with it,
comes on first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Answer": ".types",
    "Mention": ".types",
    "Student": ".types",
    "UniNER": ".component",
    "label_colour": ".visual",
    "render": ".visual",
    "render_prompt": ".prompt",
    "save_page": ".visual",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
