"""What is sent of a passage: a copy in which nothing reads like a marker, and the way
back from an answer about the copy to the passage itself.

Servers take a prompt as one string, and read markers in it wherever they stand. Also
guesses how long a text is, where no server counts.
"""

import math
import re
from dataclasses import dataclass
from typing import List, Optional

from ...prompt import get_template, render_prefix, render_question
from ..copying import SYNTAX_PIECES

# of LLaMA and its descendants, and of templates for chats
KNOWN = ("<s>", "</s>", "<unk>", "<pad>", "[PAD]", "[INST]", "[/INST]", "<<SYS>>")
OPENING = "<|"  # of all later ones
UNITS = re.compile(r"[a-z]+|\s+|.", re.DOTALL)


@dataclass(frozen=True)
class Copy:
    """A text as it is sent.

    original (str): The text.
    text (str): The same, with a blank inside everything that reads like a marker.
    blanks (List[int]): Where those blanks stand in `text`, in characters.
    """

    original: str
    text: str
    blanks: List[int]

    def restore(self, mention: str) -> str:
        """Undo in a mention what was done to the text.

        mention (str): What was answered.
        RETURNS (str): The stretch of the original that it stands for; as it is, if it
            stands in no changed stretch.
        """
        if not self.blanks or mention in self.original:
            return mention
        at = self.text.find(mention)
        if at < 0 or not mention:
            return mention
        end = at + len(mention)
        start = at - sum(blank < at for blank in self.blanks)
        return self.original[start : end - sum(blank < end for blank in self.blanks)]


def make_copy(text: str, *, template: str) -> Copy:
    """Make a text harmless.

    text (str): A passage, or a type.
    template (str): Name of the template, whose markers are known.
    RETURNS (Copy): What to send of it.
    """
    markers = [*KNOWN, *get_template(template).markers, OPENING]
    if template == "mini":
        # single tokens of its students
        markers += SYNTAX_PIECES
    found = sorted(set(markers), key=len, reverse=True)
    pattern = re.compile("(?=(" + "|".join(re.escape(m) for m in found) + "))")
    cuts = {match.start() + 1 for match in pattern.finditer(text)}
    parts = [text[i:j] for i, j in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)])]
    blanks = [cut + n for n, cut in enumerate(sorted(cuts))]
    return Copy(text, " ".join(parts), blanks)


def render(
    passage: Copy,
    entity_type: str,
    *,
    template: str,
    dataset: Optional[str],
    with_first: bool,
) -> str:
    """Render a prompt.

    passage (Copy): What is asked about.
    entity_type (str): What is asked for.
    template (str): Name of the template.
    dataset (Optional[str]): Name for the dataset field.
    with_first (bool): Whether the first marker is sent; if not, the server adds it.
    RETURNS (str): The prompt.
    """
    asked = make_copy(entity_type, template=template).text
    named = make_copy(dataset, template=template).text if dataset else None
    pieces = render_prefix(passage.text, dataset=named, template=template)
    pieces += render_question(asked, template=template)
    return "".join(piece.text for piece in pieces[0 if with_first else 1 :])


def estimate_tokens(text: str) -> int:
    """Guess how long a text is, rather too long than too short: two small letters
    a token, one capital, digit or sign, one byte beyond ASCII; single blanks join words.

    text (str): Any text.
    RETURNS (int): Tokens.
    """
    n = 0
    for match in UNITS.finditer(text):
        unit = match[0]
        if unit.isspace():
            n += 0 if unit == " " else len(unit)
        elif unit.isascii():
            n += math.ceil(len(unit) / 2)
        else:
            n += len(unit.encode("utf8", "replace"))
    return max(n, 1) if text else 0
