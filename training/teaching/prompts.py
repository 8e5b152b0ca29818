"""What a teacher is asked: the paper's two prompts word for word, and one of ours.

Turns a passage into the body of a chat request, and a body into the key by which
an answer is found again. Knows nothing of servers, prices or files.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from ..files import InputError

SYSTEM = "You are a helpful information extraction system."
# SOURCE: UniversalNER, Figure 1; the definitions are from universal-ner#6
TEMPLATES = {
    "types": (
        "Given a passage, your task is to extract all entities and identify their "
        "entity types. The output should be in a list of tuples of the following "
        'format: [("entity 1", "type of entity 1"), ... ].\n\nPassage: {passage}'
    ),
    "definitions": (
        "Given a paragraph, your task is to extract all entities and concepts, and "
        "define their type using a short sentence. The output should be in the "
        'following format: [("entity", "definition of entity type in a short '
        'sentence"), ... ]\n\nParagraph: {passage}'
    ),
    "closed": (
        "Given a passage, your task is to extract all entities of the following types "
        "and of no others: {types}. The output should be in a list of tuples of the "
        'following format: [("entity 1", "type of entity 1"), ... ]. Write every type '
        "as it is listed, and [] if there is no such entity.\n\nPassage: {passage}"
    ),
}
Body = Dict[str, Any]  # of a chat request


@dataclass(frozen=True)
class Prompt:
    """A question to a teacher about any passage.

    name (str): "types", "definitions" or "closed".
    types (Tuple[str, ...]): The entity types asked for; for "closed" only.
    """

    name: str
    types: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in TEMPLATES:
            raise InputError(
                f"There is no prompt {self.name!r}. Choose {', '.join(TEMPLATES)}."
            )
        if (self.name == "closed") != bool(self.types):
            raise InputError(
                "The prompt 'closed' needs types, and no other takes any: give "
                "--types a,b,c or --types @file."
            )

    def render(self, passage: str) -> List[Dict[str, str]]:
        """Write the question about a passage.

        passage (str): The text.
        RETURNS (List[Dict[str, str]]): Messages of a chat.
        """
        # the passage goes in last: what looks like a field in it is text
        before, after = TEMPLATES[self.name].split("{passage}")
        before = before.replace("{types}", ", ".join(self.types))
        return [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": before + passage + after},
        ]


@dataclass(frozen=True)
class Asking:
    """How passages are put to a teacher. Greedy: who asks again hears the same.

    prompt (Prompt): What to ask.
    model (str): The teacher, as its server calls it.
    max_tokens (int): Longest answer, in tokens.
    reasoning (bool): Whether the teacher thinks before it answers. Such models take
        their limit, thoughts included, by another name, and no temperature.
    """

    prompt: Prompt
    model: str
    max_tokens: int = 1024
    reasoning: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"--max-tokens must be above 0, got {self.max_tokens}.")

    def body(self, passage: str) -> Body:
        """RETURNS (Body): The chat request for a passage."""
        body = {"model": self.model, "messages": self.prompt.render(passage)}
        if self.reasoning:
            return {**body, "max_completion_tokens": self.max_tokens}
        return {**body, "temperature": 0, "max_tokens": self.max_tokens}

    def key(self, passage: str) -> str:
        """RETURNS (str): What the answer depends on, hashed: 64 hexadecimal digits.
        The server is no part of it."""
        told = {"prompt": self.prompt.name, **self.body(passage)}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def longest_answer(body: Body) -> int:
    """RETURNS (int): Tokens that the answer to a request may have."""
    return body.get("max_tokens") or body["max_completion_tokens"]


@dataclass(frozen=True)
class Question:
    """A passage that a teacher is asked about, by the key of its answer."""

    id: str
    text: str
    key: str


def read_types(given: str, lines: Sequence[str] = ()) -> Tuple[str, ...]:
    """Read entity types: none blank, none twice.

    given (str): Types with commas between; unused if there are lines.
    lines (Sequence[str]): Types, one a line.
    RETURNS (Tuple[str, ...]): The types, in order.
    """
    items = lines or given.split(",")
    return tuple(dict.fromkeys(item.strip() for item in items if item.strip()))
