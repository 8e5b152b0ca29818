"""Count as the official evaluation does: normalized strings, compared as sets.

SOURCE: universal-ner/universal-ner 844e0e1, src/eval/evaluate.py
"""

import re
import string
from typing import Tuple

_DROP = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize(mention: str) -> str:
    """RETURNS (str): A mention as the official script compares it."""
    return " ".join(_ARTICLES.sub(" ", mention.lower().translate(_DROP)).split())


def f1(hits: int, n_gold: int, n_found: int) -> Tuple[float, float, float]:
    """RETURNS (Tuple[float, float, float]): Precision, recall and F1, in percent."""
    precision = hits / n_found if n_found else 0.0
    recall = hits / n_gold if n_gold else 0.0
    both = 2 * precision * recall / (precision + recall) if hits else 0.0
    return round(100 * precision, 2), round(100 * recall, 2), round(100 * both, 2)
