"""Grammars that keep an answer to a JSON list, or to stretches of a passage, in the form
that llama.cpp and vLLM (xgrammar) share. Knows nothing of servers.
"""

import re

from ..copying import escape

FORCED = '["uniner"]'  # what a server writes under `forced_grammar`, if it heeds it
UNIT = re.compile(r"\w+|\s+|[^\w\s]")

_LISTS = r"""root ::= " "? "[" (string (", " string)*)? "]"
string ::= "\"" char+ "\""
char ::= [^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" hex hex hex hex)
hex ::= [0-9a-fA-F]
"""


def forced_grammar() -> str:
    """RETURNS (str): A grammar that allows nothing but `FORCED`."""
    return f"root ::= {_quote(FORCED)}\n"


def list_grammar() -> str:
    """RETURNS (str): A grammar of all JSON lists of strings; the same every time, so
    that servers prepare it once."""
    return _LISTS


def copy_grammar(passage: str) -> str:
    """Write the grammar of lists of stretches of a passage, from word to word.

    passage (str): What is asked about, as it is sent.
    RETURNS (str): A grammar whose length grows with that of the passage.
    """
    units = UNIT.findall(passage.strip())
    if not units:
        return 'root ::= " "? "[]"\n'
    starts = [f"u{i}" for i, unit in enumerate(units) if not unit.isspace()]
    lines = [
        'root ::= " "? ("[]" | "[" mention (", " mention)* "]")',
        f'mention ::= "\\"" ({" | ".join(starts)}) "\\""',
    ]
    for i, unit in enumerate(units):
        after = f"u{i + 1}"
        if i + 1 == len(units):
            after = ""
        elif not unit.isspace():  # no mention ends with a blank
            after = f"({after})?"
        lines.append(f"u{i} ::= {_quote(escape(unit))} {after}".rstrip())
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """Write a text as a literal of a grammar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
