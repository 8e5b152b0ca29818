"""The one copy of every prompt template: (passage, type) -> text and pieces.

Training and inference both render here. Knows nothing of tokenizers: a piece is
either a marker, which a tokenizer must map to one special token, or plain text,
in which it must find none.

SOURCE: universal-ner/universal-ner 844e0e1, src/conversation.py and src/utils.py
("uniner"); src/train/fastchat/conversation.py ("uniner-paragraph").
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from .errors import Errors

MAX_TYPE_CHARS = 1000  # characters; a definition sentence is the longest use
# turns of the official conversation
TEXT, HEARD = "Text: ", "I've read this text."
QUESTION = "What describes {type} in the text?"


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt that is tokenized by itself.

    text (str): The marker's name, or plain text.
    is_marker (bool): Whether the piece is one special token.
    """

    text: str
    is_marker: bool = False


@dataclass(frozen=True)
class Template:
    """How a passage and a type become a prompt.

    The prefix holds the passage and never the type, so all types of a passage
    share it; the question follows it. `{dataset}`, `{passage}` and `{type}` are
    filled in; a tuple of one string is a marker.

    prefix (tuple): Parts before the question.
    question (tuple): Parts that ask for one type, up to where the answer begins.
    end (str): Marker that ends an answer.
    """

    prefix: Tuple[Piece, ...]
    question: Tuple[Piece, ...]
    end: str = "</s>"

    @property
    def markers(self) -> List[str]:
        """RETURNS (List[str]): Every marker of the template, each once."""
        found = [p.text for p in self.prefix + self.question if p.is_marker]
        return list(dict.fromkeys([*found, self.end]))


def _official(noun: str) -> Template:
    system = (
        "A virtual assistant answers questions from a user based on the provided "
        f"{noun}. USER: {{dataset}}{TEXT}{{passage}} ASSISTANT: {HEARD}"
    )
    return Template(
        prefix=(Piece("<s>", True), Piece(system), Piece("</s>", True)),
        question=(Piece(f"USER: {QUESTION} ASSISTANT:"),),
    )


# "mini" is the shipped student's: the question is paid once per type, so it is short.
# The blank makes the first word look like every other word of the passage.
TEMPLATES: Dict[str, Template] = {
    "uniner": _official("text"),
    "uniner-paragraph": _official("paragraph"),
    "mini": Template(
        prefix=(Piece("<s>", True), Piece("{dataset} {passage}")),
        question=(Piece("<q>", True), Piece(" {type}"), Piece("<a>", True)),
    ),
}


def get_template(name: str) -> Template:
    """Look a template up by name.

    name (str): "uniner", "uniner-paragraph" or "mini".
    RETURNS (Template): The template.
    RAISES (ValueError): U001, if there is none of that name.
    """
    if name not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise ValueError(Errors.U001.format(template=name, known=known))
    return TEMPLATES[name]


def render_prefix(
    passage: str, *, dataset: Optional[str] = None, template: str = "uniner"
) -> List[Piece]:
    """Render what all types of a passage share.

    passage (str): The text that is asked about.
    dataset (Optional[str]): Name for the dataset field of the paper's Figure 3.
    template (str): Name of the template.
    RETURNS (List[Piece]): The pieces before the question.
    """
    slots = {"{dataset}": dataset_field(dataset), "{passage}": passage}
    return [_fill(part, slots) for part in get_template(template).prefix]


def dataset_field(dataset: Optional[str]) -> str:
    """RETURNS (str): The field that names a dataset, with what parts it from the text."""
    return f"Dataset: {dataset} \n " if dataset else ""


def render_question(entity_type: str, *, template: str = "uniner") -> List[Piece]:
    """Render the question for one type, up to where the answer begins.

    entity_type (str): A type phrase, or a definition sentence.
    template (str): Name of the template.
    RETURNS (List[Piece]): The pieces of the question.
    RAISES (ValueError): U002, if the type is empty, too long or has line breaks.
    """
    check_type(entity_type)
    parts = get_template(template).question
    return [_fill(part, {"{type}": entity_type}) for part in parts]


def render_prompt(
    passage: str,
    entity_type: str,
    *,
    dataset: Optional[str] = None,
    template: str = "uniner",
) -> str:
    """Render a whole prompt as text. With the default template this is the
    official string, byte for byte; its first marker is left to the tokenizer.

    passage (str): The text that is asked about.
    entity_type (str): A type phrase, or a definition sentence.
    dataset (Optional[str]): Name for the dataset field of the paper's Figure 3.
    template (str): Name of the template.
    RETURNS (str): The prompt.
    """
    pieces = render_prefix(passage, dataset=dataset, template=template)
    pieces += render_question(entity_type, template=template)
    return "".join(piece.text for piece in pieces[1:])


def check_type(entity_type: str) -> None:
    """Check that a phrase can be asked for.

    entity_type (str): A type phrase, or a definition sentence.
    RAISES (ValueError): U002, if it is empty, too long or has control characters;
        U003, if it is not valid Unicode.
    """
    if not is_printable_phrase(entity_type, MAX_TYPE_CHARS):
        raise ValueError(
            Errors.U002.format(limit=MAX_TYPE_CHARS, entity_type=entity_type)
        )
    check_unicode(entity_type)


def is_printable_phrase(phrase: object, limit: int) -> bool:
    """Tell whether something is a non-blank string on one line.

    phrase (object): What was given.
    limit (int): Longest phrase allowed, in characters.
    RETURNS (bool): Whether it may be shown and asked for.
    """
    if not isinstance(phrase, str) or not phrase.strip() or len(phrase) > limit:
        return False
    return not any(ord(c) < 32 or c in "\x7f\x85\u2028\u2029" for c in phrase)


def check_unicode(text: str) -> None:
    """Check that a text can be encoded.

    text (str): Any text.
    RAISES (ValueError): U003, at its first lone surrogate.
    """
    try:
        text.encode("utf8")
    except UnicodeEncodeError as e:
        code = ord(text[e.start])
        raise ValueError(Errors.U003.format(code=code, at=e.start)) from None


def _fill(part: Piece, slots: Dict[str, str]) -> Piece:
    """Fill the slots of a part, each once: what is filled in is never searched."""
    if part.is_marker:
        return part
    filled = part.text
    done = ""
    for slot, value in slots.items():
        before, found, after = filled.partition(slot)
        if found:
            done, filled = done + before + value, after
    return Piece(done + filled)
