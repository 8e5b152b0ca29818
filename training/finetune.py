"""Train a small student on conversations, in the `branches` layout.

One file from top to bottom: settings, data, optimizers, loop, checkpoints. The
schedule follows the clock, so that a run ends when it was told to. A run that
is killed goes on from its last checkpoint.

    python -m training.finetune --config training/configs/mini.cfg \\
        --conversations conversations.jsonl --dev dev.jsonl --tokenizer DIR --out DIR
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig

from spacy_uniner.errors import Errors
from spacy_uniner.students.coding import Coder

from .files import InputError, run_script, write_json
from .network import (
    Network,
    Sizes,
    as_tensors,
    from_transformers,
    init_weights,
    to_transformers,
)
from .packing import Batch, Counts, Shape, stream_batches
from .settings import add_settings, read_settings

KINDS = ("start", "which", "copy")  # is there one? its first piece; go on or close


@dataclass(frozen=True)
class Settings:
    """How to train.

    minutes (float): Length of the run, resumed stretches included.
    tokens_per_batch (int): Tokens of a step, padding included.
    matrix_rate (float): Learning rate of Muon, for matrices.
    other_rate (float): Learning rate of AdamW, for embeddings and norms.
    matrix_decay (float): Weight decay of the matrices, per step and unit of rate.
        Without it attention saturates, as Muon's steps do not shrink.
    warmup (float): Share of the run over which rates rise.
    decay (float): Share of the run, at its end, over which rates fall to zero.
    passage_weight (float): Weight of the language-model loss on passages.
    answer_weight (float): Weight of the loss over the whole vocabulary on answers,
        without which what is legal is seldom the best of all.
    language_model_share (float): Share of rows that have these two.
    save_minutes (float): Between checkpoints.
    compiled (bool): Run layers through `torch.compile`.
    threads (int): Of torch.
    seed (int): Of the weights.
    template (str): Prompt template of the student.
    init (str): Folder of a checkpoint of the same sizes and tokenizer to start from;
        empty for chance.
    skip (int): Conversations at the start of the file that are left out, for
        instance because an earlier run saw them.
    """

    minutes: float = 90
    tokens_per_batch: int = 12000
    matrix_rate: float = 0.02
    other_rate: float = 0.002
    matrix_decay: float = 0.1
    warmup: float = 0.02
    decay: float = 0.5
    passage_weight: float = 0.1
    answer_weight: float = 0.3
    language_model_share: float = 0.25
    save_minutes: float = 4
    compiled: bool = True
    threads: int = 2
    seed: int = 0
    template: str = "mini"
    init: str = ""
    skip: int = 0


def rate_factor(done: float, settings: Settings) -> float:
    """RETURNS (float): What rates are multiplied by when `done` of the run, in
    [0, 1], has passed: up, level, down to zero."""
    rising = done / settings.warmup if settings.warmup else 1.0
    return max(0.0, min(1.0, rising, (1 - done) / settings.decay))


def make_optimizers(
    weights: Dict[str, Tensor], settings: Settings
) -> List[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the rest."""
    matrices = [w for name, w in weights.items() if w.ndim == 2 and name != "embed"]
    others = [w for name, w in weights.items() if w.ndim == 1 or name == "embed"]
    muon = torch.optim.Muon(
        matrices,
        lr=settings.matrix_rate,
        weight_decay=settings.matrix_decay,
        momentum=0.95,
        adjust_lr_fn="original",
    )
    adamw = torch.optim.AdamW(
        others, lr=settings.other_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return [muon, adamw]


def split_loss(choice: Tensor, batch: Batch) -> Dict[str, Tuple[float, int]]:
    """Sum the loss of choices by kind.

    choice (Tensor): Loss of each choice. Shape: (n_rows, Q)
    batch (Batch): The batch.
    RETURNS (Dict[str, Tuple[float, int]]): Kind -> sum in nats, number of choices.
    """
    chosen = torch.from_numpy(batch.chosen)
    legal = torch.from_numpy(batch.legal)
    start = legal[..., 0]
    copy = legal[..., 3]
    masks = {"start": start, "copy": copy, "which": (chosen >= 0) & ~start & ~copy}
    return {
        kind: (choice[mask].sum().item(), int(mask.sum()))
        for kind, mask in masks.items()
    }


def mean_by_kind(parts: List[Dict[str, Tuple[float, int]]]) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Mean loss of each kind over batches, in nats."""
    out = {}
    for kind in KINDS:
        total = sum(p[kind][0] for p in parts)
        out[kind] = round(total / max(1, sum(p[kind][1] for p in parts)), 4)
    return out


@dataclass
class Progress:
    """Where a run stands: saved with every checkpoint."""

    step: int = 0
    conversations: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_dev: float = float("inf")


class Run:
    """A training run and its folder."""

    def __init__(
        self, out: Path, settings: Settings, shape: Shape, sizes: Sizes, tokenizer: Path
    ) -> None:
        self.out, self.settings, self.shape, self.sizes = out, settings, shape, sizes
        self.tokenizer = tokenizer
        loaded = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self.coder = Coder(loaded, settings.template, source=str(tokenizer))
        self.progress = Progress(conversations=settings.skip)
        if settings.init:
            found = load_file(Path(settings.init) / "model.safetensors")
            self.weights = from_transformers(found, sizes)
        else:
            generator = torch.Generator().manual_seed(settings.seed)
            self.weights = init_weights(sizes, generator)
        for weight in self.weights.values():
            weight.requires_grad_()
        self.optimizers = make_optimizers(self.weights, settings)
        self.network = Network(sizes, compiled=settings.compiled)
        s = self.coder.syntax
        self.syntax = torch.tensor([s.empty, s.open, s.next, s.close])

    def losses(self, batch: Batch) -> Tuple[Tensor, Tensor]:
        """RETURNS (Tuple[Tensor, Tensor]): Loss of each choice, and of language."""
        # the gradient of a frequent piece is a sum too long for bf16
        half = {
            name: weight if name == "embed" else weight.to(torch.bfloat16)
            for name, weight in self.weights.items()
        }
        return self.network.losses(
            half, as_tensors(batch, self.shape.window), self.syntax
        )

    def step(self, batch: Batch) -> Tuple[Tensor, Tensor]:
        """Learn from one batch.

        RAISES (FloatingPointError): U082, if the loss is not finite.
        """
        choice, language = self.losses(batch)
        loss = choice.sum() / max(1, int((batch.chosen >= 0).sum()))
        loss = loss + self.settings.passage_weight * language[0]
        loss = loss + self.settings.answer_weight * language[1]
        if not torch.isfinite(loss):
            message = Errors.U082.format(
                loss=loss.item(),
                step=self.progress.step,
                checkpoint=self.out / "state.pt",
            )
            raise FloatingPointError(message)
        loss.backward()
        done = min(1.0, self.progress.seconds / (60 * self.settings.minutes))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * rate_factor(done, self.settings)
            optimizer.step()
            optimizer.zero_grad()
        return choice.detach(), language.detach()

    @torch.no_grad()
    def evaluate(self, batches: List[Batch]) -> Dict[str, float]:
        """RETURNS (Dict[str, float]): Mean loss by kind, and `answer`: nats per question."""
        parts = [split_loss(self.losses(batch)[0], batch) for batch in batches]
        means = mean_by_kind(parts)
        total = sum(p[kind][0] for p in parts for kind in KINDS)
        return {**means, "answer": round(total / sum(p["start"][1] for p in parts), 4)}

    def save(self) -> None:
        """Save everything that resuming needs, whole or not at all."""
        state = {
            "weights": {name: w.detach() for name, w in self.weights.items()},
            "optimizers": [o.state_dict() for o in self.optimizers],
            "progress": asdict(self.progress),
            "settings": asdict(self.settings),
            "sizes": self.sizes._asdict(),
        }
        torch.save(state, self.out / "state.tmp")
        os.replace(self.out / "state.tmp", self.out / "state.pt")

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one.

        RAISES (ValueError): U083, if the model's sizes differ.
        """
        if not (self.out / "state.pt").exists():
            return
        state = torch.load(self.out / "state.pt", weights_only=True)
        found, expected = state["sizes"], self.sizes._asdict()
        if found != expected:
            raise ValueError(
                Errors.U083.format(
                    path=self.out, what="model", found=found, expected=expected
                )
            )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])

    def export(self, folder: Path) -> None:
        """Write a checkpoint that transformers and the component load.

        folder (Path): Where to; weights are written last and renamed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        s = self.sizes
        syntax = self.coder.syntax
        config = LlamaConfig(
            vocab_size=s.vocab,
            hidden_size=s.hidden,
            intermediate_size=s.inner,
            num_hidden_layers=s.layers,
            num_attention_heads=s.heads,
            num_key_value_heads=s.heads,
            max_position_embeddings=2048,
            rms_norm_eps=s.eps,
            rope_parameters={"rope_type": "default", "rope_theta": s.theta},
            tie_word_embeddings=True,
            bos_token_id=self.coder.tokenizer.token_to_id("<s>"),
            eos_token_id=syntax.end,
            pad_token_id=syntax.end,
            dtype="bfloat16",
            architectures=["LlamaForCausalLM"],
            template=self.settings.template,
            max_passage_tokens=max(self.shape.passage) - 2,
        )
        config.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(self.tokenizer / name, folder / name)
        tensors = to_transformers(self.weights, s)
        save_file(tensors, folder / "model.tmp", metadata={"format": "pt"})
        os.replace(folder / "model.tmp", folder / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_settings(parser)
    parser.add_argument("--conversations", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config = read_settings(args.config, args.set)
    settings = Settings(**config["finetune"])
    shape = Shape(**{**config["shape"], "passage": tuple(config["shape"]["passage"])})
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    torch._dynamo.config.recompile_limit = 64  # one compilation per shape
    vocab = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json")).get_vocab_size()
    sizes = Sizes(vocab=vocab, **config["model"])
    run = Run(args.out, settings, shape, sizes, args.tokenizer)
    run.resume()
    train(run, args.conversations, args.dev)
    if not (args.out / "best" / "model.safetensors").exists():
        raise InputError(f"No checkpoint came of it: see the losses in {args.out}.")


def train(run: Run, conversations: Path, dev: Path) -> None:
    """Train until the time is over.

    run (Run): The run.
    conversations (Path): What to train on, in order; read again when it ends.
    dev (Path): Held-out conversations; their loss is logged, and the checkpoint
        with the lowest is exported.
    """
    settings, progress = run.settings, run.progress
    stream = {
        "tokens_per_batch": settings.tokens_per_batch,
        "language_model_share": settings.language_model_share,
    }
    dev_counts = Counts()
    dev_stream = stream_batches(
        dev,
        run.coder,
        run.shape,
        tokens_per_batch=4096,
        language_model_share=0,
        counts=dev_counts,
        rest=True,
    )
    dev_batches = [batch for _, batch in dev_stream]
    if not dev_batches:
        raise InputError(f"None of the conversations in {dev} can be trained on.")
    counts = Counts()
    parts: List[Dict[str, Tuple[float, int]]] = []
    languages: List[List[float]] = []
    saved = logged = progress.seconds
    with (run.out / "log.jsonl").open("a", encoding="utf8") as log:
        while progress.seconds < 60 * settings.minutes:
            batches = stream_batches(
                conversations,
                run.coder,
                run.shape,
                counts=counts,
                skip=progress.conversations,
                **stream,
            )
            at_end = True
            clock = time.perf_counter()
            for number, batch in batches:
                choice, language = run.step(batch)
                parts.append(split_loss(choice, batch))
                languages.append(language.tolist())
                now = time.perf_counter()
                progress.seconds += now - clock
                clock = now
                progress.step += 1
                progress.conversations = number
                progress.tokens += batch.passage.size + batch.branches.size
                over = progress.seconds >= 60 * settings.minutes
                if progress.seconds - logged > 60 or over:
                    logged = progress.seconds
                    row = {
                        **asdict(progress),
                        **mean_by_kind(parts),
                        "language": [
                            round(sum(x) / len(x), 4) for x in zip(*languages)
                        ],
                    }
                    parts, languages = [], []
                    if progress.seconds - saved > 60 * settings.save_minutes or over:
                        saved = progress.seconds
                        row["dev"] = run.evaluate(dev_batches)
                        if row["dev"]["answer"] <= progress.best_dev:
                            progress.best_dev = row["dev"]["answer"]
                            run.export(run.out / "best")
                        run.save()
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                if over:
                    at_end = False
                    break
            if at_end and not progress.conversations:
                raise InputError(
                    f"{conversations} fills no batch of {settings.tokens_per_batch} "
                    "tokens. Lower finetune.tokens_per_batch, or make more."
                )
            if at_end:
                progress.conversations = 0
    write_json(run.out / "counts.json", asdict(counts))


if __name__ == "__main__":
    run_script(main)
