"""A checkpoint in this process: strings in, answers out.

Loads on the first question, never on construction; drops its weights when
pickled; refuses to run after a fork.
How a checkpoint is found and loaded is in `checkpoint`, how answers are written
in `tree`, how they are read in `reading`.
"""

import json
import re
import threading
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from spacy import registry

from ..errors import Errors, Warnings
from ..prompt import get_template, is_printable_phrase
from ..sums import sha256_of
from ..types import Answer, Question
from .branch import Decoding, Row, Written
from .calibration import Calibration, is_bound
from .checkpoint import (
    DEVICES,
    DTYPES,
    Checkpoint,
    choose_device,
    choose_dtype,
    find_checkpoint,
    load_model,
    load_tokenizer,
    refuse_forks,
    tell_licence,
)
from .coding import Coder
from .llama import Llama
from .reading import read_written
from .search import COUNTED, LEAST
from .tree import write_tree

PROMPT_TOKENS = 128  # tokens kept for template and type
MAX_DATASET_CHARS = 100
MAX_QUESTION_TOKENS = 512  # tokens of questions that share one reading of a passage
# files of a checkpoint that answers depend on, and those among them that only tell of it
FILES = ("*.json", "*.safetensors", "tokenizer.model")
REMARKS = ("manifest.json", "training.json", "calibration.json")


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
    mention_bound: Optional[float] = None,
    empty_bound: Optional[float] = None,
    constrained: bool = True,
    dataset: Optional[str] = None,
) -> "LocalStudent":
    """Create a student that runs in this process. Weights load on the first
    question; with `hub`, a name that was not downloaded before is downloaded now.

    model (str): "mini" for the shipped student, a folder, or a hub name.
    hub (bool): Whether a hub name may be downloaded.
    template (str): Prompt template; "auto" for the one that the checkpoint names.
    device (str): "auto", "cpu", "cuda", "cuda:0", ...
    dtype (str): "auto", "float32", "bfloat16" or "float16".
    tokens_per_batch (int): Tokens of a forward pass. Keys and values of two to four
        times as many are kept at a time.
    max_passage_tokens (Optional[int]): Longest passage, in tokens; None for what the
        checkpoint says, or 256, the length that the paper's students were trained on.
    max_new_tokens (int): Longest list that is written, in tokens.
    mention_bound (Optional[float]): The dial between precision and recall: a mention
        is named when the probability that the answer holds it is at least this, over
        the answers that are likely enough; 0.01 and more, and the less the slower. 0
        for the mentions of the one answer that is given greedily; None for what the
        checkpoint says, fitted on dev data, or 0. It is compared with the model's own
        probability, before calibration.
    empty_bound (Optional[float]): The dial of greedy answers: one is empty when the
        probability of that is at least this. 0.5 is the greedy choice; None for what
        the checkpoint says, or 0.5.
    constrained (bool): Whether an answer may hold nothing but JSON syntax and
        stretches of the passage. If not, it is what plain greedy decoding gives,
        and the bounds have no say.
    dataset (Optional[str]): Name for the dataset field of the prompt, for students that
        were trained with names of datasets, such as UniNER-7B-type-sup.
    RETURNS (LocalStudent): The student.
    RAISES (ValueError): U001, U030, U031, U034, U039, U042, U044, U046, U048, if a setting is not
        allowed.
    """
    return LocalStudent(
        find_checkpoint(model, hub=hub),
        template=template,
        device=device,
        dtype=dtype,
        tokens_per_batch=tokens_per_batch,
        max_passage_tokens=max_passage_tokens,
        max_new_tokens=max_new_tokens,
        mention_bound=mention_bound,
        empty_bound=empty_bound,
        constrained=constrained,
        dataset=dataset,
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
        mention_bound: Optional[float] = None,
        empty_bound: Optional[float] = None,
        constrained: bool = True,
        dataset: Optional[str] = None,
        calibration: Optional[Calibration] = None,
    ) -> None:
        """Check the settings. For settings and errors see `make_local_student`.

        calibration (Optional[Calibration]): What its probabilities are worth; None
            for what the checkpoint says.
        """
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
        if calibration is None:
            calibration = Calibration.of(checkpoint.path)
        self.calibration = calibration
        if mention_bound is None:
            mention_bound = calibration.mention_bound
        if empty_bound is None:
            empty_bound = calibration.empty_bound
        for setting, found in (
            ("mention_bound", mention_bound),
            ("empty_bound", empty_bound),
        ):
            if not is_bound(setting, found):
                raise ValueError(Errors.U044.format(setting=setting, found=found))
        self.mention_bound = mention_bound
        self.empty_bound = empty_bound
        self.constrained = constrained
        if dataset is not None and not is_printable_phrase(dataset, MAX_DATASET_CHARS):
            raise ValueError(
                Errors.U048.format(limit=MAX_DATASET_CHARS, dataset=dataset)
            )
        self.dataset = dataset
        self._forget()

    def _forget(self) -> None:
        """Be as new: nothing loaded."""
        self._coder: Optional[Coder] = None
        self._model: Any = None
        self._llama: Optional[Llama] = None
        self._digests: Optional[Dict[str, str]] = None
        self._lock = threading.Lock()

    @property
    def coder(self) -> Coder:
        """RETURNS (Coder): Tokenizer and template, loaded on first use."""
        if self._coder is None:
            tokenizer = load_tokenizer(self.checkpoint)
            name = self.checkpoint.name
            self._coder = Coder(tokenizer, self.template, source=name)
            if self.constrained and self._coder.guide("") is None:
                warnings.warn(Warnings.U104.format(path=name), stacklevel=2)
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

    @property
    def llama(self) -> Llama:
        """RETURNS (Llama): Their forward, set up on first use."""
        if self._llama is None:
            self._llama = Llama(self.model)
        return self._llama

    @property
    def identity(self) -> str:
        """RETURNS (str): All that answers depend on, as JSON, for a cache: this version
        of the package, SHA-256 of weights, config and tokenizer, and settings. Files
        are read on first use, and nothing is loaded. What changes only how numbers are
        rounded is left out, such as device and batch."""
        from .. import __version__

        if self._digests is None:
            self._digests = _digest(self.checkpoint.path)
        told = {
            "student": f"spacy-uniner {__version__} local",
            "files": self._digests,
            "template": repr(get_template(self.template)),
            "dataset": self.dataset,
            "dtype": str(choose_dtype(self.dtype, choose_device(self.device))),
            "max_new_tokens": self.max_new_tokens,
            "constrained": self.constrained,
            "mention_bound": self.mention_bound,
            "empty_bound": self.empty_bound,
            "search": [LEAST, COUNTED],
            "calibration": asdict(self.calibration),
        }
        return json.dumps(told, sort_keys=True)

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
            rows: List[Row] = []
            owners: List[int] = []
            for owner, (passage, types) in enumerate(questions):
                prefix = self.coder.prefix(passage, self.dataset)
                guide = self.coder.guide(passage)
                for part in _split([self.coder.question(t) for t in types]):
                    rows.append(Row(prefix, part, guide))
                    owners.append(owner)
            written = self._write(rows)
        self._warn_of_cuts([w for row in written for w in row])
        answers: List[List[Answer]] = [[] for _ in questions]
        for owner, row in zip(owners, written):
            passage, _ = questions[owner]
            answers[owner] += [
                read_written(
                    w, passage, self.coder, self.mention_bound, self.calibration
                )
                for w in row
            ]
        return answers

    def _write(self, rows: Sequence[Row]) -> List[List[Written]]:
        """Write answers, or say in the user's words why not."""
        import torch

        decoding = Decoding(
            end=self.coder.end,
            max_new_tokens=self.max_new_tokens,
            tokens_per_batch=self.tokens_per_batch,
            empty_bound=self.empty_bound,
            mention_bound=self.mention_bound,
            constrained=self.constrained,
        )
        llama = self.llama
        try:
            return write_tree(llama, rows, decoding)
        except torch.OutOfMemoryError as e:
            widest = max(len(row.prefix) for row in rows)
            message = Errors.U036.format(n_tokens=widest, device=self.device)
            raise RuntimeError(message) from e
        except FloatingPointError as e:
            name, dtype = self.checkpoint.name, llama.dtype
            raise ValueError(Errors.U037.format(path=name, dtype=dtype)) from e

    def _warn_of_cuts(self, written: Sequence[Written]) -> None:
        cut = sum(not w.finished for w in written)
        if cut:
            message = Warnings.U103.format(truncated=cut, limit=self.max_new_tokens)
            warnings.warn(message, stacklevel=4)

    def __getstate__(self) -> Dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_coder", "_model", "_llama", "_digests", "_lock"):
            del state[name]
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def _digest(folder: Path) -> Dict[str, str]:
    """RETURNS (Dict[str, str]): SHA-256 of each file of a checkpoint that answers depend
    on."""
    found = {}
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        if path.name not in REMARKS:
            found[path.name] = sha256_of(path)
    return found


def _split(questions: List[List[int]]) -> List[List[List[int]]]:
    """Split questions into runs of at most `MAX_QUESTION_TOKENS`, openings included."""
    parts: List[List[List[int]]] = [[]]
    left = MAX_QUESTION_TOKENS
    for question in questions:
        if parts[-1] and len(question) + 1 > left:
            parts.append([])
            left = MAX_QUESTION_TOKENS
        parts[-1].append(question)
        left -= len(question) + 1
    return parts


def _check(setting: str, found: str, allowed: Sequence[str], ok: object) -> None:
    if not ok:
        raise ValueError(
            Errors.U034.format(setting=setting, allowed=allowed, found=found)
        )
