"""The settings of a run: what a config file says about fine-tuning.

Defaults are the paper's, for a 7B student; how long a run takes has none.

SOURCE: universal-ner/universal-ner 844e0e1, src/train/train.sh; arXiv 2308.03279, 4.1
"""

from dataclasses import dataclass
from typing import Optional, Tuple, Type, TypeVar, Union

from confection import Config

from ..files import InputError
from ..settings import fill
from .optimizers import OPTIMIZERS, SCHEDULES
from .rows import LAYOUTS
from .windows import Shape

PRECISIONS = ("bf16", "fp32")
T = TypeVar("T")


@dataclass(frozen=True)
class Finetune:
    """Section `finetune`: the run, its schedule and its loss.

    Exactly one of `epochs`, `minutes` and `steps` is not 0.

    init (str): What training starts from: a folder, a hub name, or "mini"; empty for
        the section `model`, and chance.
    template (str): Prompt template of the student.
    epochs (float): Length of the run, in passes over the conversations.
    minutes (float): Length of the run, resumed stretches included.
    steps (int): Length of the run, in steps.
    optimizer (str): "adamw", or "muon" for matrices inside of layers.
    rate (float): Learning rate of AdamW. matrix_rate (float): Of Muon.
    weight_decay (float): Per step and unit of rate; with Muon, of matrices only, as
        without it attention saturates.
    schedule (str): How rates fall: "cosine" or "linear".
    warmup (float): Share of the run over which rates rise.
    decay (float): Share of the run, at its end, over which they fall to zero.
    clip (float): Largest norm of the gradient; 0 for any.
    legal_weight (float): Weight of the loss over legal tokens, on answers.
    answer_weight (float): Weight of the loss over the whole vocabulary, on answers.
    passage_weight (float): The same, on passages.
    language_share (float): Share of passages that have it; with windows also of
        their answers.
    all_turns (bool): Whether the assistant's "I've read this text." is learned too.
    precision (str): "bf16", with fp32 weights beside it, or "fp32".
    checkpointing (bool): Whether activations are computed twice to save memory.
    compiled (bool): Run layers of windows through `torch.compile`.
    save_minutes (float): Between checkpoints, which also measure the loss on dev.
    threads (int): Of torch, on a processor; 0 for what torch chooses.
    seed (int): Of weights and of orders.
    trackers (Tuple[str, ...]): Trackers that accelerate knows, such as "tensorboard".
    """

    init: str = ""
    template: str = "uniner"
    epochs: float = 0
    minutes: float = 0
    steps: int = 0
    optimizer: str = "adamw"
    rate: float = 2e-5
    matrix_rate: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.04
    decay: float = 0.96
    clip: float = 1.0
    legal_weight: float = 0.0
    answer_weight: float = 1.0
    passage_weight: float = 0.0
    language_share: float = 0.0
    all_turns: bool = False
    precision: str = "bf16"
    checkpointing: bool = False
    compiled: bool = False
    save_minutes: float = 10
    threads: int = 0
    seed: int = 0
    trackers: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"finetune.{name} must be one of {', '.join(allowed)}, got "
                    f"{getattr(self, name)!r}."
                )
        told = [n for n in ("epochs", "minutes", "steps") if getattr(self, n) > 0]
        if len(told) != 1:
            raise InputError(
                "Exactly one of finetune.epochs, .minutes and .steps must be more than 0, "
                f"got {', '.join(told) or 'none'}."
            )
        if not self.legal_weight and not self.answer_weight:
            raise InputError(
                "finetune.legal_weight and .answer_weight are both 0: no answer is learned."
            )


@dataclass(frozen=True)
class WindowSettings:
    """Section `windows`: rows of few shapes, for small students that are trained fast.

    passage, window, max_windows: See `windows.Shape`.
    tokens_per_batch (int): Tokens of a batch, padding included.
    batches_per_step (int): Batches whose gradients are added up.
    """

    passage: Tuple[int, ...] = (24, 48, 80, 144)
    window: int = 40
    max_windows: int = 3
    tokens_per_batch: int = 6144
    batches_per_step: int = 1

    @property
    def shape(self) -> Shape:
        """RETURNS (Shape): The shapes of rows."""
        return Shape(tuple(self.passage), self.window, self.max_windows)


@dataclass(frozen=True)
class RowSettings:
    """Section `rows`: many passages in a row, for any LLaMA of transformers.

    length (int): Length of a row, in tokens.
    longest (int): Longest passage with its questions, in tokens, and no longer than a
        row; one that is longer is split by questions.
    layout (str): "conversation", as in the paper, or "branches", as at inference.
    rows_per_batch (int): Rows that a process reads at a time.
    conversations_per_step (int): Of all processes together: the global batch.
    """

    length: int = 4096
    longest: int = 1024
    layout: str = "conversation"
    rows_per_batch: int = 1
    conversations_per_step: int = 256

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InputError(
                f"rows.layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}."
            )


@dataclass(frozen=True)
class Lora:
    """Section `lora`: low-rank adapters in place of all weights; merged when saved.

    rank (int): Of the adapters.
    alpha (int): Their scale; what they add is multiplied by alpha / rank.
    dropout (float): Share of their inputs that is dropped.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        """RETURNS (float): What the product of two adapters is multiplied by."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class ModelSettings:
    """Section `model`: the numbers of a student from scratch.

    hidden, heads, layers, inner, theta, eps: As in `LlamaConfig`.
    positions (int): Longest text.
    """

    hidden: int
    heads: int
    layers: int
    inner: int
    theta: float = 10000.0
    eps: float = 1e-5
    positions: int = 2048


@dataclass(frozen=True)
class Recipe:
    """All settings of a run.

    finetune (Finetune): The run, its schedule and its loss.
    packing (Union[WindowSettings, RowSettings]): How conversations become rows.
    start (Union[str, ModelSettings]): A checkpoint, or the numbers of a new student.
    lora (Optional[Lora]): Adapters; None to train all weights.
    """

    finetune: Finetune
    packing: Union[WindowSettings, RowSettings]
    start: Union[str, ModelSettings]
    lora: Optional[Lora]

    @classmethod
    def of(cls, config: Config) -> "Recipe":
        """Read a config.

        config (Config): Sections `finetune`, `windows` or `rows`, `lora`, `model`.
        RETURNS (Recipe): The settings.
        RAISES (InputError): If a setting is unknown or of another type, or sections do
            not go together.
        """

        def section(name: str, kind: Type[T]) -> Optional[T]:
            if name not in config:
                return None
            values = config[name].items()
            plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values}
            return fill(kind, plain, name)

        finetune = section("finetune", Finetune)
        windows, rows = section("windows", WindowSettings), section("rows", RowSettings)
        lora, model = section("lora", Lora), section("model", ModelSettings)
        if finetune is None:
            raise InputError("The config has no section [finetune].")
        packing = windows or rows
        if packing is None or (windows and rows):
            raise InputError(
                "The config must have one of the sections [windows] (small students, "
                "trained fast) and [rows] (any LLaMA), not both."
            )
        if lora and windows and (lora.dropout or finetune.optimizer == "muon"):
            raise InputError(
                "[lora] with [windows] knows no dropout, and adapters are trained by "
                'AdamW: set lora.dropout = 0 and finetune.optimizer = "adamw".'
            )
        start = finetune.init or model
        if not start:
            raise InputError(
                "There is nothing to start from: set finetune.init to a checkpoint, or "
                "add a section [model]."
            )
        return cls(finetune, packing, start, lora)

    @property
    def has_choices(self) -> bool:
        """RETURNS (bool): Whether it must be known what is legal at each step."""
        is_windows = isinstance(self.packing, WindowSettings)
        return is_windows or self.finetune.legal_weight > 0
