"""A checkpoint in this process: strings in, answers out.

Loads on the first question, never on construction; drops its weights when
pickled; refuses to run after a fork; halves a batch that memory can't hold.
How a checkpoint is found and loaded is in `checkpoint`, how answers are written
in `tree`, or, where nothing can be told of the tokenizer's list syntax, in `greedy`.
"""

import math
import os
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
    tell_licence,
)
from .coding import Coder
from .greedy import write_greedy
from .tree import Row, Written, write_tree

T = TypeVar("T")
U = TypeVar("U")
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
    max_passage_tokens: int = 256,
    max_new_tokens: int = 256,
) -> "LocalStudent":
    """Create a student that runs in this process. Nothing is loaded yet.

    model (str): "mini" for the shipped student, a folder, or a hub name.
    hub (bool): Whether a hub name may be downloaded.
    template (str): Prompt template; "auto" for the one that the checkpoint names.
    device (str): "auto", "cpu", "cuda", "cuda:0", ...
    dtype (str): "auto", "float32", "bfloat16" or "float16".
    tokens_per_batch (int): Tokens per forward pass, padding included.
    max_passage_tokens (int): Longest passage, in tokens. Students were trained on
        passages of up to 256 tokens.
    max_new_tokens (int): Longest answer, in tokens.
    RETURNS (LocalStudent): The student.
    RAISES (ValueError): U001, U030, U031, U034, U039, if a setting is not allowed.
    """
    return LocalStudent(
        find_checkpoint(model, hub=hub),
        template=template,
        device=device,
        dtype=dtype,
        tokens_per_batch=tokens_per_batch,
        max_passage_tokens=max_passage_tokens,
        max_new_tokens=max_new_tokens,
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
        max_passage_tokens: int = 256,
        max_new_tokens: int = 256,
    ) -> None:
        """Check the settings. For their meaning see `make_local_student`."""
        if template != "auto":
            get_template(template)
        _check(
            "device", device, DEVICES, re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device)
        )
        _check("dtype", dtype, DTYPES, dtype in DTYPES)
        for setting, unit, found in (
            ("tokens_per_batch", "tokens", tokens_per_batch),
            ("max_passage_tokens", "tokens", max_passage_tokens),
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
        self.max_passage_tokens = max_passage_tokens
        self.max_new_tokens = max_new_tokens
        self._forget()

    def _forget(self) -> None:
        """Be as new: nothing loaded."""
        self._coder: Optional[Coder] = None
        self._model: Any = None
        self._loaded_in: Optional[int] = None
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
        """RETURNS (LlamaForCausalLM): The weights, loaded on first use.
        RAISES (RuntimeError): U035, in a forked child of the process that loaded them.
        """
        if self._model is None:
            tell_licence(self.checkpoint)
            self._model = load_model(
                self.checkpoint, device=self.device, dtype=self.dtype
            )
            self._loaded_in = os.getpid()
        if self._loaded_in != os.getpid():
            raise RuntimeError(
                Errors.U035.format(parent=self._loaded_in, child=os.getpid())
            )
        return self._model

    def count_tokens(self, text: str) -> int:
        """RETURNS (int): Length of a text, in tokens."""
        return len(self.coder.text(text))

    def __call__(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer questions.

        questions (Sequence[Question]): Passages, each with its types.
        RETURNS (List[List[Answer]]): For each passage one answer per type, in order.
        """
        with self._lock:
            guided = self.coder.syntax is not None
            answers = (
                self._ask_tree(questions) if guided else self._ask_greedy(questions)
            )
        cut = sum(answer.truncated for row in answers for answer in row)
        if cut:
            warnings.warn(
                Warnings.U103.format(truncated=cut, limit=self.max_new_tokens),
                stacklevel=2,
            )
        return answers

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
                self.model, batch, max_new_tokens=self.max_new_tokens
            ),
        )
        answers: List[List[Answer]] = [[] for _ in questions]
        for owner, row in zip(owners, written):
            answers[owner] += [self._read(w) for w in row]
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
        rest = iter(written)
        return [[self._read(next(rest)) for _ in types] for _, types in questions]

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

    def _read(self, written: Written) -> Answer:
        """Read what was written, and score each mention."""
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
        p_empty = written.p_empty
        if self.coder.syntax is None and not mentions:
            p_empty = math.prod(written.probabilities)
        return Answer(
            tuple(mentions),
            p_empty,
            reading.unreadable,
            int(not written.finished),
            written.certified,
            text.strip(),
        )

    def __getstate__(self) -> Dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_coder", "_model", "_loaded_in", "_lock"):
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
