"""The answers file: which questions are answered, what was added, what it all cost.

One row per key, each on disk before it counts. Asks nobody.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from ..files import SURROGATE, InputError, Journal, read_rows
from ..tuples import read_tuples
from .pricing import Price, bound_tokens, count_bytes, estimate_tokens
from .prompts import Asking, Body, Question, longest_answer
from .replies import Reply


def read_questions(
    path: Path, asking: Asking, *, limit: Optional[int] = None
) -> Tuple[List[Question], Counter]:
    """Read passages as questions, none twice.

    path (Path): Passages, rows of {"id", "text"}.
    asking (Asking): How they are put.
    limit (Optional[int]): How many passages are read, from the first.
    RETURNS (Tuple[List[Question], Counter]): The questions; and how many passages
        came "twice" or are "unusable": no text, or no text that UTF-8 can hold.
    """
    questions: Dict[str, Question] = {}
    left_out: Counter = Counter()
    for number, row in enumerate(read_rows(path, fields=("id", "text"))):
        if number == limit:
            break
        id, text = str(row["id"]), row["text"]
        is_text = isinstance(text, str) and text.strip()
        if not is_text or SURROGATE.search(id + text):
            left_out["unusable"] += 1
            continue
        key = asking.key(text)
        left_out["twice"] += key in questions
        questions.setdefault(key, Question(id, text, key))
    return list(questions.values()), left_out


def make_row(question: Question, reply: Reply, asking: Asking) -> dict:
    """Make a row of the answers file.

    question (Question): What was asked.
    reply (Reply): What came back.
    asking (Asking): How it was asked.
    RETURNS (dict): The row.
    """
    tuples = read_tuples(reply.text)
    usage = {"input_tokens": reply.n_input, "output_tokens": reply.n_output}
    return {
        "id": question.id,
        "text": question.text,
        "entities": [list(pair) for pair in tuples.pairs],
        "status": tuples.status if reply.status == "ok" else reply.status,
        "teacher": {
            "model": asking.model,
            "prompt": asking.prompt.name,
            "usage": usage,
        },
        "raw": reply.text,
        "key": question.key,
    }


@dataclass
class Tally:
    """Sums over rows of one teacher: statuses, tokens."""

    statuses: Counter = field(default_factory=Counter)
    n_input: int = 0  # tokens
    n_output: int = 0  # tokens
    n_measured: int = 0  # rows whose tokens are known and not 0
    n_bytes: int = 0  # of UTF-8 in the questions of those rows
    n_unmeasured: int = 0  # rows of servers that count no tokens
    most_input: int = 0  # tokens that those can have had
    most_output: int = 0

    def add(self, row: dict, body: Body) -> None:
        """Count a row in.

        row (dict): The row.
        body (Body): What was asked.
        """
        self.statuses[row["status"]] += 1
        usage = row["teacher"].get("usage") or {}
        n_input, n_output = usage.get("input_tokens"), usage.get("output_tokens")
        if n_input is None or n_output is None:
            self.n_unmeasured += 1
            self.most_input += bound_tokens(body)
            self.most_output += longest_answer(body)
            return
        self.n_input += n_input
        self.n_output += n_output
        if n_input:
            self.n_measured += 1
            self.n_bytes += count_bytes(body)

    def worst(self, price: Price) -> float:
        """RETURNS (float): Dollars that all rows together can have cost."""
        n_input = self.n_input + self.most_input
        return price.of(n_input, self.n_output + self.most_output)

    def told(self, price: Optional[Price]) -> dict:
        """RETURNS (dict): The sums, as reports have them."""
        dollars = price and round(price.of(self.n_input, self.n_output), 6)
        return {
            "rows": sum(self.statuses.values()),
            "statuses": dict(self.statuses),
            "input_tokens": self.n_input,
            "output_tokens": self.n_output,
            "dollars": dollars,
            "rows_without_usage": self.n_unmeasured,
        }


class Ledger:
    """What stands in an answers file. Reads it; writes only through `journal`."""

    def __init__(
        self, rows: Iterable[dict], asking: Asking, *, journal: Optional[Journal] = None
    ) -> None:
        """Read what stands there.

        rows (Iterable[dict]): The rows.
        asking (Asking): Whose rows are counted: this model's, this prompt's.
        journal (Optional[Journal]): Where rows are added.
        """
        self.asking = asking
        self.keys: Set[str] = set()
        self.tally = Tally()
        self._journal = journal
        for row in rows:
            self._count(row)

    def _count(self, row: dict) -> None:
        key, teacher = row.get("key"), row.get("teacher") or {}
        if not key or not {"text", "status"} <= row.keys():
            raise InputError("The answers file has rows of another program: no key.")
        self.keys.add(key)
        ours = (self.asking.model, self.asking.prompt.name)
        if (teacher.get("model"), teacher.get("prompt")) == ours:
            self.tally.add(row, self.asking.body(row["text"]))

    def open(self, questions: Iterable[Question]) -> Iterator[Question]:
        """YIELDS (Question): What has no answer yet."""
        return (q for q in questions if q.key not in self.keys)

    def add(self, question: Question, reply: Reply) -> bool:
        """Add an answer; it is on disk when this returns.

        question (Question): What was asked.
        reply (Reply): What came back.
        RETURNS (bool): Whether it is new; one that stands there is not added.
        RAISES (InputError): If the disk is full; what stands there is whole.
        """
        if question.key in self.keys or self._journal is None:
            return False
        row = make_row(question, reply, self.asking)
        try:
            self._journal.add(row)
        except OSError as error:
            raise InputError(
                f"{self._journal.path} takes no more rows: {error.strerror}. Those "
                "that stand there are whole; make room and run again."
            ) from None
        self._count(row)
        return True

    def set_long_aside(
        self,
        questions: Iterable[Question],
        context: int,
        count_tokens: Callable[[Body], int] = estimate_tokens,
    ) -> List[Question]:
        """Answer passages that no teacher of this size can take: they are "too_long".

        questions (Iterable[Question]): What would be asked.
        context (int): Tokens that a question and its answer may have.
        count_tokens (Callable[[Body], int]): Counts the tokens of a request.
        RETURNS (List[Question]): What is left to ask.
        """
        left: List[Question] = []
        for question in questions:
            n_tokens = count_tokens(self.asking.body(question.text))
            if n_tokens + self.asking.max_tokens <= context:
                left.append(question)
            else:
                self.add(question, Reply("", "too_long", 0, 0))
        return left

    def expect(self, body: Body, guess: int) -> Tuple[float, float]:
        """Estimate a call by those before it.

        body (Body): The request.
        guess (int): Tokens of an answer, if there was none before.
        RETURNS (Tuple[float, float]): Tokens of the request, and of its answer.
        """
        tally = self.tally
        if not tally.n_measured:
            return float(estimate_tokens(body)), float(guess)
        per_byte = tally.n_input / max(1, tally.n_bytes)
        return count_bytes(body) * per_byte, tally.n_output / tally.n_measured
