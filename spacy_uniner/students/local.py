"""A checkpoint in this process: strings in, answers out.

Loads on the first question, never on construction; drops its weights when
pickled; refuses to run after a fork; halves a batch that memory can't hold.
How a checkpoint is found and loaded is in `checkpoint`, how answers are written
in `tree`, or, where nothing can be told of the tokenizer's list syntax, in `greedy`.
"""

import math
import re
import threading
import warnings
from typing import Any, Callable, Dict, List, Optional, Sequence, TypeVar

from spacy import registry

from ..answers import read_answer
from ..errors import Errors, Warnings
from ..prompt import get_template
from ..types import Answer, Mention, Question
from .checkpoint import (
    DEVICES,
    DTYPES,
    Checkpoint,
    find_checkpoint,
    load_model,
    load_tokenizer,
    refuse_forks,
    tell_licence,
)
from .coding import Coder
from .greedy import write_greedy
from .tree import Row, Written, write_tree

T = TypeVar("T")
U = TypeVar("U")
PROMPT_TOKENS = 128  # tokens kept for template and type
MAX_QUESTION_TOKENS = 512  # tokens of questions that share a row, if the batch is small


@registry.misc("spacy-uniner.LocalStudent.v1")
def make_local_student(
    *,
    model: str = "mini",
    hub: bool = False,
    template: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    tokens_per_batch: int = 4096,
    max_passage_tokens: Optional[int] = None,
    max_new_tokens: int = 256,
    empty_bound: Optional[float] = None,
) -> "LocalStudent":
    """Create a student that runs in this process. Weights load on the first
    question; with `hub`, a name that was not downloaded before is downloaded now.

    model (str): "mini" for the shipped student, a folder, or a hub name.
    hub (bool): Whether a hub name may be downloaded.
    template (str): Prompt template; "auto" for the one that the checkpoint names.
    device (str): "auto", "cpu", "cuda", "cuda:0", ...
    dtype (str): "auto", "float32", "bfloat16" or "float16".
    tokens_per_batch (int): Tokens of the forward pass that reads passages and types,
        padding included; the later ones, per mention, are mostly smaller.
    max_passage_tokens (Optional[int]): Longest passage, in tokens; None for what the
        checkpoint says, or 256, the length that the paper's students were trained on.
    max_new_tokens (int): Longest answer, in tokens.
    empty_bound (Optional[float]): The dial between precision and recall: an answer is
        empty when the probability of that is at least this. 0.5 is the greedy
        choice; None for what the checkpoint says, fitted on dev data, or 0.5. Only
        for checkpoints whose mentions are copied by construction.
    RETURNS (LocalStudent): The student.
    RAISES (ValueError): U001, U030, U031, U034, U039, U042, U044, if a setting is not allowed.
    """
    return LocalStudent(
        find_checkpoint(model, hub=hub),
        template=template,
        device=device,
        dtype=dtype,
        tokens_per_batch=tokens_per_batch,
        max_passage_tokens=max_passage_tokens,
        max_new_tokens=max_new_tokens,
        empty_bound=empty_bound,
    )


class LocalStudent:
    """Answers questions with a LLaMA checkpoint in this process."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        template: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        tokens_per_batch: int = 4096,
        max_passage_tokens: Optional[int] = None,
        max_new_tokens: int = 256,
        empty_bound: Optional[float] = None,
    ) -> None:
        """Check the settings. For settings and errors see `make_local_student`."""
        _check(
            "device", device, DEVICES, re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device)
        )
        _check("dtype", dtype, DTYPES, dtype in DTYPES)
        longest = max_passage_tokens
        if longest is None:
            longest = checkpoint.config.get("max_passage_tokens", 256)
        for setting, unit, found in (
            ("tokens_per_batch", "tokens", tokens_per_batch),
            ("max_passage_tokens", "tokens", longest),
            ("max_new_tokens", "tokens", max_new_tokens),
        ):
            if found < 1:
                raise ValueError(
                    Errors.U039.format(setting=setting, unit=unit, least=1, found=found)
                )
        self.checkpoint = checkpoint
        self.template = checkpoint.template if template == "auto" else template
        get_template(self.template)
        self.device, self.dtype = device, dtype
        self.tokens_per_batch = tokens_per_batch
        positions = checkpoint.config.get("max_position_embeddings", 2048)
        if longest + max_new_tokens + PROMPT_TOKENS > positions:
            raise ValueError(
                Errors.U042.format(
                    passage=longest, answer=max_new_tokens, positions=positions
                )
            )
        self.max_passage_tokens = longest
        self.max_new_tokens = max_new_tokens
        if empty_bound is None:
            empty_bound = checkpoint.config.get("empty_bound", 0.5)
        if not 0.0 <= empty_bound <= 1.0:
            raise ValueError(Errors.U044.format(found=empty_bound))
        self.empty_bound = empty_bound
        self._forget()

    def _forget(self) -> None:
        """Be as new: nothing loaded."""
        self._coder: Optional[Coder] = None
        self._model: Any = None
        self._lock = threading.Lock()

    @property
    def coder(self) -> Coder:
        """RETURNS (Coder): Tokenizer and template, loaded on first use."""
        if self._coder is None:
            tokenizer = load_tokenizer(self.checkpoint)
            self._coder = Coder(tokenizer, self.template, source=self.checkpoint.name)
        return self._coder

    @property
    def model(self) -> Any:
        """RETURNS (LlamaForCausalLM): The weights, loaded on first use."""
        if self._model is None:
            tell_licence(self.checkpoint)
            self._model = load_model(
                self.checkpoint, device=self.device, dtype=self.dtype
            )
        return self._model

    def count_tokens(self, text: str) -> int:
        """RETURNS (int): Length of a text, in tokens."""
        return len(self.coder.text(text))

    def __call__(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer questions.

        questions (Sequence[Question]): Passages, each with its types.
        RETURNS (List[List[Answer]]): For each passage one answer per type, in order.
        RAISES (ValueError): U032, U033, U037, U040, U041, if the checkpoint is damaged.
            (RuntimeError): U035 in a forked child of a process that had loaded any
            checkpoint, U036 if memory can't hold a single passage.
        """
        refuse_forks()
        with self._lock:
            if self.coder.syntax is not None:
                return self._ask_tree(questions)
            return self._ask_greedy(questions)

    def _ask_tree(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer with the answer tree: a row per passage, split if it has too many types."""
        rows: List[Row] = []
        owners: List[int] = []
        for owner, (passage, types) in enumerate(questions):
            prefix, guide = self.coder.prefix(passage), self.coder.guide(passage)
            room = max(MAX_QUESTION_TOKENS, self.tokens_per_batch // 4 - len(prefix))
            for part in _split([self.coder.question(t) for t in types], room):
                rows.append(Row(prefix, part, guide))  # type: ignore[arg-type]
                owners.append(owner)
        written = self._in_batches(
            rows,
            [row.width for row in rows],
            lambda batch: write_tree(
                self.model,
                batch,
                max_new_tokens=self.max_new_tokens,
                empty_bound=self.empty_bound,
            ),
        )
        self._warn_of_cuts([w for row in written for w in row])
        answers: List[List[Answer]] = [[] for _ in questions]
        for owner, row in zip(owners, written):
            answers[owner] += [self._read_guided(w) for w in row]
        return answers

    def _ask_greedy(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer with one prompt per question."""
        prompts: List[List[int]] = []
        for passage, types in questions:
            prefix = self.coder.prefix(passage)
            prompts += [prefix + self.coder.question(t) for t in types]
        written = self._in_batches(
            prompts,
            [len(prompt) for prompt in prompts],
            lambda batch: write_greedy(
                self.model,
                batch,
                end=self.coder.end,
                max_new_tokens=self.max_new_tokens,
            ),
        )
        self._warn_of_cuts(written)
        rest = iter(written)
        return [[self._read_free(next(rest)) for _ in types] for _, types in questions]

    def _warn_of_cuts(self, written: Sequence[Written]) -> None:
        cut = sum(not w.finished for w in written)
        if cut:
            message = Warnings.U103.format(truncated=cut, limit=self.max_new_tokens)
            warnings.warn(message, stacklevel=4)

    def _in_batches(
        self,
        items: Sequence[T],
        widths: Sequence[int],
        write: Callable[[List[T]], List[U]],
    ) -> List[U]:
        """Write items of like width together; where memory can't hold a batch, halve it.

        RAISES (RuntimeError): U036, if memory can't hold a single item.
        """
        import torch

        order = sorted(range(len(items)), key=lambda i: -widths[i])
        out: Dict[int, U] = {}
        at, budget = 0, self.tokens_per_batch
        while at < len(order):
            size = max(1, budget // widths[order[at]])  # the widest comes first
            batch = order[at : at + size]
            try:
                out.update(zip(batch, write([items[i] for i in batch])))
            except torch.OutOfMemoryError as e:
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                if len(batch) == 1:
                    n_tokens = widths[order[at]]
                    message = Errors.U036.format(n_tokens=n_tokens, device=self.device)
                    raise RuntimeError(message) from e
                budget = widths[order[at]] * (len(batch) // 2)
                continue
            at += len(batch)
        return [out[i] for i in range(len(items))]

    def _read_guided(self, written: Written) -> Answer:
        """Read a list that is valid by construction, and score each mention by the
        pieces from its opening to its close."""
        text = self.coder.answer(written.ids)
        reading = read_answer(text)
        syntax = self.coder.syntax
        borders = [
            i
            for i, token in enumerate(written.ids)
            if syntax and token in (syntax.open, syntax.next, syntax.close)
        ]
        scores = [
            math.prod(written.probabilities[start : end + 1])
            for start, end in zip(borders, borders[1:])
        ]
        mentions = tuple(Mention(i.text, p) for i, p in zip(reading.items, scores))
        return Answer(
            mentions,
            written.p_empty,
            reading.unreadable,
            reading.truncated,
            written.certified,
            text,
        )

    def _read_free(self, written: Written) -> Answer:
        """Read whatever was written, and score each mention by the pieces that its
        string overlaps."""
        text = self.coder.answer(written.ids)
        reading = read_answer(text)
        offsets = self.coder.answer_offsets(written.ids) if reading.items else []
        mentions = []
        for item in reading.items:
            pieces = [
                p
                for (start, end), p in zip(offsets, written.probabilities)
                if start < item.end and end > item.start
            ]
            mentions.append(Mention(item.text, math.prod(pieces)))
        p_empty = math.prod(written.probabilities) if text.strip() == "[]" else 0.0
        return Answer(
            tuple(mentions),
            p_empty,
            reading.unreadable,
            reading.truncated,
            written.certified,
            text.strip(),
        )

    def __getstate__(self) -> Dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_coder", "_model", "_lock"):
            del state[name]
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def _split(questions: List[List[int]], room: int) -> List[List[List[int]]]:
    """Split questions into runs of at most `room` tokens, openings included."""
    parts: List[List[List[int]]] = [[]]
    left = room
    for question in questions:
        if parts[-1] and len(question) + 1 > left:
            parts.append([])
            left = room
        parts[-1].append(question)
        left -= len(question) + 1
    return parts


def _check(setting: str, found: str, allowed: Sequence[str], ok: object) -> None:
    if not ok:
        raise ValueError(
            Errors.U034.format(setting=setting, allowed=allowed, found=found)
        )
