"""A checkpoint in this process: strings in, answers out.

Loads on the first question, never on construction; drops its weights when
pickled; refuses to run after a fork; halves a batch that memory can't hold.
How a checkpoint is found and loaded is in `checkpoint`, how answers are written
in `greedy`.
"""

import os
import re
import threading
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple

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
from .greedy import Written, write_answers


@registry.misc("spacy-uniner.LocalStudent.v1")
def make_local_student(
    *,
    model: str = "mini",
    hub: bool = False,
    template: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
    max_passage_tokens: int = 256,
    max_new_tokens: int = 256,
) -> "LocalStudent":
    """Create a student that runs in this process. Nothing is loaded yet.

    model (str): "mini" for the shipped student, a folder, or a hub name.
    hub (bool): Whether a hub name may be downloaded.
    template (str): Prompt template; "auto" for the one that the checkpoint names.
    device (str): "auto", "cpu", "cuda", "cuda:0", ...
    dtype (str): "auto", "float32", "bfloat16" or "float16".
    batch_size (int): Questions per forward pass.
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
        batch_size=batch_size,
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
        batch_size: int = 64,
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
            ("batch_size", "questions", batch_size),
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
        self.batch_size = batch_size
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
            flat = self._write([(p, t) for p, types in questions for t in types])
        rows = iter(flat)
        answers = [[next(rows) for _ in types] for _, types in questions]
        cut = sum(answer.truncated for answer in flat)
        if cut:
            warnings.warn(
                Warnings.U103.format(truncated=cut, limit=self.max_new_tokens),
                stacklevel=2,
            )
        return answers

    def _write(self, pairs: List[Tuple[str, str]]) -> List[Answer]:
        """Answer (passage, type) pairs, those of like length together."""
        passages = list(dict.fromkeys(passage for passage, _ in pairs))
        prefixes = {p: self.coder.prefix(p) for p in passages}
        guides = {p: self.coder.guide(p) for p in passages}
        prompts = [prefixes[p] + self.coder.question(t) for p, t in pairs]
        order = sorted(range(len(pairs)), key=lambda i: len(prompts[i]))
        out: Dict[int, Answer] = {}
        at, size = 0, self.batch_size
        while at < len(order):
            batch = order[at : at + size]
            written = self._try(
                [prompts[i] for i in batch], [guides[pairs[i][0]] for i in batch]
            )
            if written is None:
                size = max(1, size // 2)
                continue
            out.update((i, self._read(w)) for i, w in zip(batch, written))
            at += len(batch)
        return [out[i] for i in range(len(pairs))]

    def _try(
        self, prompts: List[List[int]], guides: List[Any]
    ) -> Optional[List[Written]]:
        """Write a batch; None if memory can't hold it.

        RAISES (RuntimeError): U036, if memory can't hold a single prompt.
        """
        import torch

        try:
            return write_answers(
                self.model,
                prompts,
                guides,
                end=self.coder.end,
                max_new_tokens=self.max_new_tokens,
            )
        except torch.OutOfMemoryError as e:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(prompts) == 1:
                message = Errors.U036.format(
                    n_tokens=len(prompts[0]), device=self.device
                )
                raise RuntimeError(message) from e
            return None

    def _read(self, written: Written) -> Answer:
        """Read what was written, and score each mention."""
        text = self.coder.answer(written.ids).strip()
        if written.state.mode == "closed" and not written.probabilities[1:]:
            return Answer(
                p_empty=written.p_empty, certified=written.certified, text=text
            )
        reading = read_answer(text)
        # the strip above may have moved the text to the left
        lead = len(self.coder.answer(written.ids)) - len(
            self.coder.answer(written.ids).lstrip()
        )
        offsets = self.coder.answer_offsets(written.ids)
        mentions = []
        for item in reading.items:
            p = 1.0
            for (start, end), probability in zip(offsets, written.probabilities):
                if start - lead < item.end and end - lead > item.start:
                    p *= probability
            mentions.append(Mention(item.text, p))
        p_empty = written.p_empty
        if not mentions and written.guide is None:
            p_empty = _product(written.probabilities)
        return Answer(
            tuple(mentions),
            p_empty,
            reading.unreadable,
            int(not written.finished),
            written.certified,
            text,
        )

    def __getstate__(self) -> Dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_coder", "_model", "_loaded_in", "_lock"):
            del state[name]
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def _product(values: Sequence[float]) -> float:
    out = 1.0
    for value in values:
        out *= value
    return out


def _check(setting: str, found: str, allowed: Sequence[str], ok: object) -> None:
    if not ok:
        raise ValueError(
            Errors.U034.format(setting=setting, allowed=allowed, found=found)
        )
