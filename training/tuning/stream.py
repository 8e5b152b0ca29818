"""Conversations in, steps out; and where the stream stands, to go on exactly there.

Every process of a run reads the same stream, and takes its own share of each step.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Iterator, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from ..files import InputError
from .data import Conversations
from .examples import Encoder, Example


class Batch(Protocol):
    """What a student learns from at a time."""

    n_questions: int

    @property
    def n_tokens(self) -> int:
        """RETURNS (int): Tokens, padding included."""

    @property
    def counts(self) -> np.ndarray:
        """RETURNS (np.ndarray): How many places each term of the loss has. Shape: (5,)"""

    def blank(self) -> "Batch":
        """RETURNS (Batch): A batch of this shape that teaches nothing."""


class Packer(Protocol):
    """Gathers examples until they make a step."""

    counts: Counter

    def put(
        self, number: int, example: Example, parts: Optional[Sequence[int]] = None
    ) -> None:
        """Add an example, or only some of its rows."""

    def take(self, *, rest: bool = False) -> List[Any]:
        """RETURNS (List[Any]): The batches of a step; none if no step is full. With
        `rest`, of what is left."""

    @property
    def waiting(self) -> List[Tuple[int, int]]:
        """RETURNS (List[Tuple[int, int]]): Examples, and their rows, that wait here."""


@dataclass
class Place:
    """Where a stream stands.

    next (int): The conversation that is read next; counts on over epochs.
    waiting (List[Tuple[int, int]]): Conversations before it of which rows still wait,
        and which rows.
    counts (dict): What was read and left out so far.
    """

    next: int = 0
    waiting: List[Tuple[int, int]] = field(default_factory=list)
    counts: dict = field(default_factory=dict)


def stream(
    conversations: Conversations,
    encode: Encoder,
    packer: Packer,
    *,
    place: Optional[Place] = None,
    end: Optional[int] = None,
) -> Iterator[Tuple[Place, List[Any]]]:
    """Stream the steps of a run.

    conversations (Conversations): What is read.
    encode (Encoder): Makes examples of it.
    packer (Packer): Makes steps of those; it must be empty.
    place (Optional[Place]): Where to go on; the beginning if None.
    end (Optional[int]): How many conversations are read; without end if None.
    YIELDS (Tuple[Place, List[Any]]): Where the stream stands after the step, and its
        batches.
    RAISES (InputError): If nothing of the first epoch can be learned.
    """
    place = place or Place()
    for number in dict.fromkeys(n for n, _ in place.waiting):
        example = encode(conversations.at(number))
        if example is not None:
            parts = [part for n, part in place.waiting if n == number]
            packer.put(number, example, parts)
    packer.counts.clear()
    packer.counts.update(place.counts)
    number = place.next
    is_barren = not number  # as long as no step has come
    while end is None or number < end:
        example = encode(conversations.at(number))
        if example is not None:
            packer.put(number, example)
        number += 1
        step = packer.take()
        is_barren = is_barren and not step and not packer.waiting
        if is_barren and number == len(conversations):
            raise InputError(f"Nothing of this can be learned: {dict(packer.counts)}.")
        if step:
            yield Place(number, packer.waiting, dict(packer.counts)), step
    while step := packer.take(rest=True):
        yield Place(number, packer.waiting, dict(packer.counts)), step
