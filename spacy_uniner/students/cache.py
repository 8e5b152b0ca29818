"""A student that remembers: each (student, passage, type) is asked once, ever.

Wraps any student that can tell what its answers depend on. A new label costs one
question per passage, and a second run costs none. How they lie on disk is in `store`.
"""

import hashlib
import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from spacy import registry

from ..errors import Errors
from ..types import Answer, Mention, Question, Student
from .store import Store

Pair = Tuple[str, str]  # a passage and one type

# what an answer holds beside its mentions, with its kind
PLAIN: Dict[str, type] = {
    f.name: type(f.default) for f in fields(Answer) if f.name != "mentions"
}


@registry.misc("spacy-uniner.CachedStudent.v1")
def make_cached_student(
    *, student: Student, path: str, max_mb: int = 0
) -> "CachedStudent":
    """Create a student that keeps the answers of another on disk.

    student (Student): Whose answers are kept. Needs a property `identity` (str) that
        changes with everything that its answers depend on.
    path (str): File for the answers, on a disk of this machine (no network drive); a
        relative one is looked for where the program runs. Made when it is needed;
        any number of processes and students may share it. It holds no passages, but
        the mentions that were found in them.
    max_mb (int): Largest file, in megabytes (2**20 bytes); 0 for no bound. Beyond it,
        answers that were not used for longest go, a tenth of all at a time. Uses less
        than an hour apart count as one; a log of some megabytes may lie beside it.
    RETURNS (CachedStudent): The student. Nothing is opened or loaded yet.
    RAISES (ValueError): U039, U090, U091, if a setting is not allowed.
    """
    return CachedStudent(student, path=path, max_mb=max_mb)


class CachedStudent:
    """Answers from disk, and asks another student what is not there."""

    def __init__(self, student: Student, *, path: str, max_mb: int = 0) -> None:
        """Check the settings. For settings and errors see `make_cached_student`."""
        if inspect.getattr_static(student, "identity", None) is None:
            raise ValueError(Errors.U090.format(student=_name(student), found="none"))
        if max_mb < 0:
            message = Errors.U039.format(
                setting="max_mb", unit="megabytes", least=0, found=max_mb
            )
            raise ValueError(message)
        file = Path(path).expanduser()
        if not path.strip() or "\0" in path or file.is_dir():
            raise ValueError(Errors.U091.format(path=path))
        self.student = student
        self.path = path
        self.max_mb = max_mb
        self._start()

    def _start(self) -> None:
        """Be as new: nothing opened, nothing counted."""
        self._store = Store(Path(self.path).expanduser(), max_bytes=self.max_mb * 2**20)
        self._hits = self._misses = 0

    @property
    def identity(self) -> str:
        """RETURNS (str): That of the student whose answers are kept.
        RAISES (ValueError): U090, if it tells none."""
        found = getattr(self.student, "identity", None)
        if not isinstance(found, str) or not found:
            message = Errors.U090.format(student=_name(self.student), found=found)
            raise ValueError(message)
        return found

    @property
    def hits(self) -> int:
        """RETURNS (int): Answers that nobody had to be asked for, in this process."""
        return self._hits

    @property
    def misses(self) -> int:
        """RETURNS (int): Answers that the other student gave, in this process."""
        return self._misses

    @property
    def max_passage_tokens(self) -> int:
        """RETURNS (int): Longest passage, in tokens of the other student."""
        return self.student.max_passage_tokens

    def count_tokens(self, text: str) -> int:
        """RETURNS (int): Length of a text, in tokens of the other student."""
        return self.student.count_tokens(text)

    def __call__(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer questions. What is asked is kept before it is returned.

        questions (Sequence[Question]): Passages, each with its types.
        RETURNS (List[List[Answer]]): For each passage one answer per type, in order.
        RAISES (ValueError): U019, if the other student miscounts; U090, if it tells no
            identity; U092, if the file is a database of something else.
        """
        keys = self._make_keys(questions)
        rows = self._store.load(list(keys.values()))
        answers: Dict[Pair, Answer] = {}
        missing: Dict[str, List[str]] = {}
        for pair, key in keys.items():
            answer = decode(rows[key], pair[0]) if key in rows else None
            if answer is None:
                missing.setdefault(pair[0], []).append(pair[1])
            else:
                answers[pair] = answer
        asked = self._ask(missing)
        answers.update(asked)
        self._store.save(
            {
                keys[pair]: encode(answer, pair[0])
                for pair, answer in asked.items()
                if _is_final(answer)
            }
        )
        with self._store.database.lock:
            self._hits += sum(len(types) for _, types in questions) - len(asked)
            self._misses += len(asked)
        return [[answers[passage, t] for t in types] for passage, types in questions]

    def _make_keys(self, questions: Sequence[Question]) -> Dict[Pair, bytes]:
        """RETURNS (Dict[Pair, bytes]): The key of each pair, each pair once, in order."""
        keys: Dict[Pair, bytes] = {}
        identity = self.identity if questions else ""
        for passage, types in questions:
            # JSON: no two lists of strings look the same, and any string can be in it
            stem = hashlib.sha256(json.dumps([identity, passage]).encode("ascii"))
            for entity_type in types:
                key = stem.copy()
                key.update(json.dumps(entity_type).encode("ascii"))
                keys[passage, entity_type] = key.digest()
        return keys

    def _ask(self, missing: Dict[str, List[str]]) -> Dict[Pair, Answer]:
        """Ask the other student.

        missing (Dict[str, List[str]]): Types by passage.
        RETURNS (Dict[Pair, Answer]): Its answers.
        RAISES (ValueError): U019, if they are more or fewer than the questions.
        """
        if not missing:
            return {}
        given = self.student(list(missing.items()))
        found, expected = [len(row) for row in given], [*map(len, missing.values())]
        if found != expected:
            raise ValueError(Errors.U019.format(found=found, expected=expected))
        return {
            (passage, entity_type): answer
            for (passage, types), row in zip(missing.items(), given)
            for entity_type, answer in zip(types, row)
        }

    def __getstate__(self) -> Dict[str, Any]:
        return {
            "student": self.student,
            "path": self.path,
            "max_mb": self.max_mb,
        }

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


def encode(answer: Answer, passage: str) -> bytes:
    """Write an answer down.

    answer (Answer): The answer.
    passage (str): What it is about.
    RETURNS (bytes): A JSON list: mentions that do not stand in the passage, all
        mentions, then every other field.
    """
    mentions = [[m.text, float(m.probability)] for m in answer.mentions]
    plain = [kind(getattr(answer, name)) for name, kind in PLAIN.items()]
    row = [_count_strangers(answer.mentions, passage), mentions, *plain]
    return json.dumps(row, separators=(",", ":")).encode("ascii")


def decode(body: bytes, passage: str) -> Optional[Answer]:
    """Read an answer.

    body (bytes): What `encode` gave, or something damaged.
    passage (str): What it is about.
    RETURNS (Optional[Answer]): The same answer; None if it can't be, for instance
        because a mention does not stand in the passage that once stood there.
    """
    try:
        strangers, pairs, *plain = json.loads(body)
        mentions = tuple(Mention(text, p) for text, p in pairs)
        whole = [type(value) for value in plain] == [*PLAIN.values()]
        whole &= all(type(m.probability) is float for m in mentions)
        whole &= strangers == _count_strangers(mentions, passage)
    except (ValueError, TypeError, RecursionError):
        return None
    return Answer(mentions, *plain) if whole else None


def _count_strangers(mentions: Sequence[Mention], passage: str) -> int:
    """Mentions that are no verbatim stretch of the passage: some students give such."""
    return sum(mention.text not in passage for mention in mentions)


def _is_final(answer: Answer) -> bool:
    """Whether asking again would give the same. An answer of another kind, or without
    any text, is what a student leaves that could not answer this time."""
    return type(answer) is Answer and answer.text != ""


def _name(student: object) -> str:
    return type(student).__name__
