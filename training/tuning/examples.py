"""Conversations as token IDs: a passage, its questions, and what was legal at each step.

The same automaton that guides answers at inference says here what the loss chooses
from. Knows nothing of rows, masks or models.
"""

from collections import Counter
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from spacy_uniner.prompt import HEARD, get_template, render_prefix
from spacy_uniner.students.coding import Coder
from spacy_uniner.students.copying import Guide

from ..files import InputError
from ..turns import dataset_of, from_conversation

NOTHING, START, WHICH, COPY = range(4)  # what is chosen at a place
KINDS = ("start", "which", "copy")  # is there one? its first piece; go on or close


class Choice(NamedTuple):
    """What may come next at one place of an answer.

    kind (int): START, WHICH or COPY; NOTHING where only one token is legal.
    legal (Optional[np.ndarray]): IDs of the legal tokens; None for NOTHING.
    """

    kind: int
    legal: Optional[np.ndarray]


@dataclass(frozen=True)
class Branch:
    """A question with its answer.

    question (List[int]): Token IDs, up to where the answer begins.
    answer (List[int]): Token IDs, with the end.
    choices (List[Choice]): One for each token of the answer; empty if nobody asked.
    """

    question: List[int]
    answer: List[int]
    choices: List[Choice]

    def __len__(self) -> int:
        return len(self.question) + len(self.answer)


@dataclass(frozen=True)
class Example:
    """A passage with its questions.

    prefix (List[int]): Token IDs of what the questions share.
    heard (int): How many of the last ones are the assistant's own first turn.
    guide (Optional[Guide]): What answers may hold; None for unknown tokenizers.
    branches (List[Branch]): The questions.
    """

    prefix: List[int]
    heard: int
    guide: Optional[Guide]
    branches: List[Branch]


class Encoder:
    """Conversations in, examples out; counts what can't be learned."""

    def __init__(
        self, coder: Coder, counts: Counter, *, choices: bool, all_turns: bool = False
    ) -> None:
        """Set up.

        coder (Coder): Tokenizer and template.
        counts (Counter): Where is counted what was read and what was left out.
        choices (bool): Whether to say what is legal at each step.
        all_turns (bool): Whether the assistant's first turn is learned as well.
        RAISES (InputError): If the template has no such turn, or the tokenizer is
            of no kind whose answers can be guided.
        """
        self.coder, self.counts, self.choices = coder, counts, choices
        self.all_turns = all_turns
        parts = get_template(coder.template).prefix
        if all_turns and not any(part.text.endswith(HEARD) for part in parts):
            raise InputError(
                f"finetune.all_turns: in the template {coder.template!r} the assistant "
                "says nothing before it answers. Set it to false."
            )
        if choices and coder.guide("a") is None:
            raise InputError(
                "finetune.legal_weight: this tokenizer is of no kind whose answers can be "
                "guided. Set it to 0, and answer_weight to 1."
            )

    def __call__(self, row: dict) -> Optional[Example]:
        """Encode a conversation, or a bare passage, which has no questions.

        row (dict): The conversation; or a passage, with its "text".
        RETURNS (Optional[Example]): None if nothing of it can be learned.
        """
        if "conversations" in row:
            passage, questions = from_conversation(row)
            dataset = dataset_of(row)
        else:
            passage, questions, dataset = row["text"], [], None
        self.counts["passages"] += 1
        guide = self.coder.guide(passage)
        branches = []
        for kind, mentions in questions:
            self.counts["questions"] += 1
            branch = self.branch(passage, kind, mentions, guide)
            if branch is not None:
                branches.append(branch)
        if questions and not branches:
            return None
        prefix = self.coder.prefix(passage, dataset)
        heard = self._heard(passage) if self.all_turns else 0
        return Example(prefix, heard, guide, branches)

    def branch(
        self, passage: str, kind: str, mentions: List[str], guide: Optional[Guide]
    ) -> Optional[Branch]:
        """Encode a question.

        passage (str): The passage.
        kind (str): The type, or its definition.
        mentions (List[str]): The answer.
        guide (Optional[Guide]): What it may hold.
        RETURNS (Optional[Branch]): None, and counted, if the answer is not a list of
            mentions that stand in the passage, at borders of tokens.
        """
        known = all(isinstance(m, str) and m and m in passage for m in mentions)
        if not known:
            self.counts["questions left out: not in the passage"] += 1
            return None
        # decoding ends a list that repeats itself, so that none may be learned
        answer = self.coder.answer_ids(list(dict.fromkeys(mentions)), guide)
        choices = _choices(answer, guide) if self.choices and guide else []
        if not answer or (self.choices and not choices):
            self.counts["questions left out: not at token borders"] += 1
            return None
        return Branch(self.coder.question(kind), answer, choices)

    def _heard(self, passage: str) -> int:
        """RETURNS (int): Tokens at the end of the prefix that the assistant says."""
        size = 0
        for piece in render_prefix(passage, template=self.coder.template):
            if piece.is_marker:
                size += bool(size)
            elif piece.text.endswith(HEARD):
                size = self.coder.tail(piece.text, len(HEARD))
        return size


def _choices(answer: Sequence[int], guide: Guide) -> List[Choice]:
    """Walk an answer through what is legal.

    answer (Sequence[int]): Token IDs of the answer with its end.
    guide (Guide): What it may hold.
    RETURNS (List[Choice]): One for each token; none if one of them is not legal.
    """
    choices: List[Choice] = []
    state = guide.start
    for token in answer:
        legal = guide.legal(state)
        if token not in legal:
            return []
        if len(legal) == 1:
            choices.append(Choice(NOTHING, None))
        elif guide.empties(state) is not None:
            choices.append(Choice(START, legal))
        elif state.mode in ("mention", "begin"):
            choices.append(Choice(WHICH, legal))
        else:
            choices.append(Choice(COPY, legal))
        state = guide.advance(state, token)
    return choices
