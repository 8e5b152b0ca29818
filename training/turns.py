"""Conversations: the official format, read and written, both as JSON lines and as
the official JSON array.

What turns say is in `spacy_uniner.prompt`. Knows nothing of where questions come from.

SOURCE: universal-ner/universal-ner 844e0e1, src/eval/test_data
"""

import json
import re
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, TextIO, Tuple

from spacy_uniner.prompt import HEARD, QUESTION, TEXT, dataset_field

from .files import InputError, read_rows

ASKED = re.compile(re.escape(QUESTION).replace(re.escape("{type}"), "(.+)"), re.DOTALL)
OPENING = re.compile(f"({dataset_field('(.*?)')})?{TEXT}", re.DOTALL)
Question = Tuple[str, List[str]]


def to_conversation(
    row_id: str,
    text: str,
    questions: Sequence[Question],
    *,
    dataset: Optional[str] = None,
    together: bool = False,
) -> dict:
    """Write a conversation.

    row_id (str): Its name.
    text (str): The passage.
    questions (Sequence[Question]): (type or definition, mentions).
    dataset (Optional[str]): Name for the dataset field of the paper's Figure 3.
    together (bool): Ask for all types at once; the answer lists (mention, type)
        pairs. The paper's all-in-one variant, whose wording is unpublished; for
        trainers that take any text as an answer, which `training.finetune` does not.
    RETURNS (dict): The conversation.
    """
    turns = [("human", f"{dataset_field(dataset)}{TEXT}{text}"), ("gpt", HEARD)]
    if together:
        pairs = [[mention, kind] for kind, found in questions for mention in found]
        questions = [(", ".join(kind for kind, _ in questions), pairs)]  # type: ignore
    for kind, mentions in questions:
        turns.append(("human", QUESTION.format(type=kind)))
        turns.append(("gpt", json.dumps(mentions, ensure_ascii=False)))
    return {"id": row_id, "conversations": [{"from": w, "value": v} for w, v in turns]}


def from_conversation(row: dict) -> Tuple[str, List[Question]]:
    """Read a conversation back. What dataset it names is told by `dataset_of`.

    row (dict): The conversation.
    RETURNS (Tuple[str, List[Question]]): The passage, and (type, answer) in order.
    RAISES (InputError): If it is none, with its name and what is amiss.
    """
    try:
        name, turns = row.get("id"), [turn["value"] for turn in row["conversations"]]
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"This is no conversation: {str(row)[:80]}") from None
    if len(turns) < 2 or len(turns) % 2 or not all(isinstance(t, str) for t in turns):
        raise InputError(f"Conversation {name!r} has no pairs of turns.")
    begins = OPENING.match(turns[0])
    if not begins:
        raise InputError(
            f"Conversation {name!r} begins with no text: {turns[0][:60]!r}"
        )
    questions = []
    for asked, answered in zip(turns[2::2], turns[3::2]):
        found = ASKED.fullmatch(asked)
        if not found:
            raise InputError(f"Conversation {name!r}: {asked[:60]!r} asks for no type.")
        try:
            answer = json.loads(answered)
        except ValueError:
            answer = None
        if not isinstance(answer, list):
            raise InputError(
                f"Conversation {name!r}: {answered[:60]!r} is no JSON list."
            )
        questions.append((found[1], answer))
    return turns[0][begins.end() :], questions


def dataset_of(row: dict) -> Optional[str]:
    """RETURNS (Optional[str]): The dataset that a conversation names, if it names one."""
    begins = OPENING.match(row["conversations"][0]["value"])
    return begins[2] if begins else None


def read_conversations(path: Path) -> Iterator[dict]:
    """Read conversations.

    path (Path): JSON lines, or the official JSON array.
    YIELDS (dict): One conversation.
    RAISES (InputError): If it is neither.
    """
    if path.suffix != ".json":
        yield from read_rows(path, fields=["conversations"])
        return
    try:
        rows = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from None
    if not isinstance(rows, list):
        raise InputError(f"{path} holds no JSON array; name JSON lines `.jsonl`.")
    yield from rows


def write_conversations(out: TextIO, rows: Iterable[dict], *, array: bool) -> int:
    """Write conversations.

    out (TextIO): Where to.
    rows (Iterable[dict]): The conversations, taken one by one.
    array (bool): Write the official JSON array instead of JSON lines.
    RETURNS (int): How many.
    """
    count = 0
    for count, row in enumerate(rows, 1):
        start = "" if not array else "[\n" if count == 1 else ",\n"
        out.write(start + json.dumps(row, ensure_ascii=False) + ("" if array else "\n"))
    if array:
        out.write("\n]\n" if count else "[]\n")
    return count


def in_order(text: str, mentions: Dict[str, List[str]]) -> Dict[str, List[str]]:
    """Sort mentions by where they first stand in the passage, each once.

    text (str): The passage.
    mentions (Dict[str, List[str]]): Type -> verbatim mentions.
    RETURNS (Dict[str, List[str]]): The same, in the order that students learn.
    """
    return {
        kind: sorted(dict.fromkeys(found), key=text.find)
        for kind, found in mentions.items()
    }
