"""The nouns: what passes between the parts. Imports nothing of ours."""

from dataclasses import dataclass
from typing import List, Protocol, Sequence, Tuple, runtime_checkable

# a passage and the types that are asked about it
Question = Tuple[str, Sequence[str]]


@dataclass(frozen=True)
class Passage:
    """A stretch of a document that is read at once.

    text (str): Verbatim text.
    start (int): Where it begins in the document, in characters.
    """

    text: str
    start: int = 0


@dataclass(frozen=True)
class Mention:
    """A string that a student named.

    text (str): The string, as it was answered.
    probability (float): That it is right. Of a search over answers: that the answer
        holds it. Of a greedy answer: product of the probabilities of its pieces, from
        its opening to its closing quote. Each piece among those that could legally
        come (verbatim copies), or among all (no constraint); calibrated where the
        checkpoint has a calibration; 1.0 where a student tells none.
    """

    text: str
    probability: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What a student says to one (passage, type).

    mentions (Tuple[Mention, ...]): In the order of the answer, repeats included; what
        a search found in the order of the passage.
    p_empty (float): Probability that the empty list is right; 0.0 where a student tells none.
    unreadable (int): Items of the answer that were no strings, or the whole of it.
    truncated (int): 1 if the answer was cut, with an unfinished item dropped; of a
        search, if one of the lists was.
    certified (bool): Whether, up to the close of the list, it equals plain greedy
        decoding over the whole vocabulary.
    text (str): The answer, raw; what a search found as a list like any answer.
    n_tokens (int): Length of the greedy answer, in tokens of the student; 0 where it
        tells none, or a search did not meet it.
    """

    mentions: Tuple[Mention, ...] = ()
    p_empty: float = 0.0
    unreadable: int = 0
    truncated: int = 0
    certified: bool = False
    text: str = "[]"
    n_tokens: int = 0


@runtime_checkable
class Student(Protocol):
    """Whatever answers questions about passages."""

    @property
    def max_passage_tokens(self) -> int:
        """RETURNS (int): Longest passage it reads, in its own tokens."""

    def count_tokens(self, text: str) -> int:
        """RETURNS (int): Length of a text in its own tokens, template left out."""

    def __call__(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer questions.

        questions (Sequence[Question]): Passages, each with its types.
        RETURNS (List[List[Answer]]): For each passage one answer per type, in order.
        """
