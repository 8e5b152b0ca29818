"""Readers of raw files, by format: files in, passages with labelled spans out.

Each is registered under a name (`spacy-uniner.conll.v1`), made with its settings, and
called with the files of one split. Knows no set; what a set is called and what its
labels mean is in `registry`.
"""

from .conll import make_conll, make_conll_layers
from .conversations import make_conversations
from .docbin import make_docbin
from .finer import make_finer
from .parts import read_part, split_files, split_rows
from .records import make_csv, make_gliner, make_offsets, make_tags
from .row import Reader, Row, readers
from .sofc import make_sofc
from .standoff import make_brat, make_pubtator

__all__ = [
    "Reader",
    "Row",
    "make_brat",
    "make_conll",
    "make_conll_layers",
    "make_conversations",
    "make_csv",
    "make_docbin",
    "make_finer",
    "make_gliner",
    "make_offsets",
    "make_pubtator",
    "make_sofc",
    "make_tags",
    "read_part",
    "readers",
    "split_files",
    "split_rows",
]
