"""A canned student, and the shipped one, for all tests."""

import os
from typing import Dict, List, Sequence

import pytest
import spacy
from hypothesis import settings
from spacy import registry

from spacy_uniner.types import Answer, Mention, Question

# where a run must not depend on chance, the same cases come every time
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


class CannedStudent:
    """Answers each type with the same mentions, whatever the passage."""

    max_passage_tokens = 40

    def __init__(self, answers: Dict[str, List]) -> None:
        self.answers = answers
        self.asked: List[Question] = []

    def count_tokens(self, text: str) -> int:
        return max(1, len(text) // 4)

    def __call__(self, questions: Sequence[Question]) -> List[List[Answer]]:
        self.asked += [(passage, list(types)) for passage, types in questions]
        return [[self._answer(t) for t in types] for _, types in questions]

    def _answer(self, entity_type: str) -> Answer:
        given = self.answers.get(entity_type, [])
        pairs = [(m, 1.0) if isinstance(m, str) else m for m in given]
        return Answer(tuple(Mention(text, p) for text, p in pairs))


@registry.misc("test.CannedStudent.v1")
def make_canned_student(*, answers: Dict[str, List]) -> CannedStudent:
    return CannedStudent(answers)


@pytest.fixture
def make_nlp():
    """Build a pipeline around canned answers."""

    def make(answers: Dict[str, List], **config):
        nlp = spacy.blank("en")
        config.setdefault("labels", list(answers))
        config["student"] = {"@misc": "test.CannedStudent.v1", "answers": answers}
        nlp.add_pipe("uniner", config=config)
        return nlp

    return make


@pytest.fixture(scope="session")
def mini_nlp():
    """The shipped student in a pipeline."""
    nlp = spacy.blank("en")
    nlp.add_pipe("uniner", config={"labels": ["person", "organization", "location"]})
    return nlp
