"""Train a student on conversations: any LLaMA, on one processor or on many GPUs.

One file from top to bottom: settings, data, student, loop. What is in rows, students
and states is in `tuning`. A run that is killed goes on from its last state as if
nothing had been.

    python -m training.finetune --config training/configs/mini.cfg \\
        --conversations conversations.jsonl --dev dev.jsonl --tokenizer DIR --out DIR

On several devices: `accelerate launch [--config_file FILE] -m training.finetune ...`
"""

import argparse
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from accelerate import Accelerator

from spacy_uniner.errors import Errors
from spacy_uniner.students.checkpoint import Checkpoint, find_checkpoint, load_tokenizer
from spacy_uniner.students.coding import Coder
from spacy_uniner.sums import sha256_of

from .files import InputError, alone, run_script, write_json
from .settings import add_settings, read_settings
from .tuning.data import Conversations
from .tuning.examples import Encoder
from .tuning.optimizers import make_optimizers, rate_factor
from .tuning.progress import Log, Progress, Stop
from .tuning.recipe import Recipe, WindowSettings
from .tuning.rows import Rows
from .tuning.states import RunFolder
from .tuning.stream import Batch, Packer, Place, stream
from .tuning.students import Trainee, make_trainee
from .tuning.windows import Windows

TERMS = ("start", "which", "copy", "passage", "answer")  # of the loss
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers")


class Run:
    """A student, what moves it, and where it stands."""

    def __init__(
        self, recipe: Recipe, trainee: Trainee, accelerator: Accelerator
    ) -> None:
        """Set up.

        recipe (Recipe): The settings.
        trainee (Trainee): The student.
        accelerator (Accelerator): Of this process.
        """
        self.recipe, self.trainee, self.accelerator = recipe, trainee, accelerator
        self.tuning = recipe.finetune
        self.progress = Progress()
        self.end: Optional[int] = None  # conversations read in all, if that is known
        trained = {
            n: w for n, w in trainee.module.named_parameters() if w.requires_grad
        }
        optimizers = make_optimizers(
            trained,
            optimizer=self.tuning.optimizer,
            rate=self.tuning.rate,
            matrix_rate=self.tuning.matrix_rate,
            weight_decay=self.tuning.weight_decay,
        )
        if recipe.lora:
            accelerator.register_save_state_pre_hook(self._only_trained)
        self.module, *self.optimizers = accelerator.prepare(trainee.module, *optimizers)
        self.loss_weights = np.array(
            [*[self.tuning.legal_weight] * 3, self.tuning.passage_weight]
            + [self.tuning.answer_weight]
        )

    def _only_trained(self, models: List, states: List[Dict], folder: str) -> None:
        """Leave out of a state what stands in the checkpoint that it began with."""
        for model, state in zip(models, states):
            trained = {n for n, w in model.named_parameters() if w.requires_grad}
            for name in [name for name in state if name not in trained]:
                del state[name]

    def share(self, batches: List[Batch]) -> List[Batch]:
        """RETURNS (List[Batch]): This process's share of a step; of equal length for
        all, as they wait for each other."""
        n = self.accelerator.num_processes
        filled = batches + [batches[0].blank()] * (-len(batches) % n)
        return filled[self.accelerator.process_index :: n]

    def factors(self, batches: List[Batch]) -> np.ndarray:
        """RETURNS (np.ndarray): What sums of losses are multiplied by, so that a step
        is the weighted mean over all places of all processes. Shape: (5,)"""
        counts = np.sum([batch.counts for batch in batches], 0)
        counts[:3] = counts[:3].sum()  # one mean over all choices
        return self.loss_weights / np.maximum(counts, 1)

    def step(self, batches: List[Batch]) -> Dict[str, float]:
        """Learn from one step, up to the weights.

        batches (List[Batch]): Of all processes.
        RETURNS (Dict[str, float]): The loss, its terms, which are means in nats, and
            "rate": what rates were multiplied by.
        RAISES (FloatingPointError): U082, if the loss is not finite; nothing is learned.
        """
        device = self.accelerator.device
        factors = torch.tensor(
            self.factors(batches), dtype=torch.float32, device=device
        )
        mine = self.share(batches)
        total = torch.zeros(len(TERMS), device=device)
        for i, batch in enumerate(mine):
            is_last = i == len(mine) - 1
            wait = self.accelerator.no_sync(self.module)
            with nullcontext() if is_last else wait:
                sums = self.module(self.trainee.as_tensors(batch, device))
                # gradients are averaged over processes
                loss = (sums * factors).sum() * self.accelerator.num_processes
                self.accelerator.backward(loss)
            total += sums.detach()
        total = self.accelerator.reduce(total, "sum")
        whole = (total * factors).sum().item()
        if not np.isfinite(whole):
            raise FloatingPointError(whole)
        if self.tuning.clip:
            self.accelerator.clip_grad_norm_(self.module.parameters(), self.tuning.clip)
        factor = rate_factor(
            self.done,
            warmup=self.tuning.warmup,
            decay=self.tuning.decay,
            schedule=self.tuning.schedule,
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * factor
            optimizer.step()
            optimizer.zero_grad()
        counts = np.maximum(np.sum([batch.counts for batch in batches], 0), 1)
        means = total.cpu().numpy() / counts
        told = {term: float(mean) for term, mean in zip(TERMS, means) if mean}
        return {"loss": whole, **told, "rate": factor}

    @torch.no_grad()
    def evaluate(self, batches: List[Batch]) -> Dict[str, float]:
        """Measure the loss on held-out conversations.

        batches (List[Batch]): All of them.
        RETURNS (Dict[str, float]): Means in nats, of terms; and "question": of whole
            answers, among legal tokens if the run learns these.
        """
        device = self.accelerator.device
        self.module.eval()
        total = torch.zeros(len(TERMS), device=device)
        for batch in self.share(batches):
            total += self.module(self.trainee.as_tensors(batch, device))
        self.module.train()
        sums = self.accelerator.reduce(total, "sum").cpu().numpy()
        counts = np.maximum(np.sum([batch.counts for batch in batches], 0), 1)
        whole = sums[:3].sum() if self.tuning.legal_weight else sums[4]
        means = {t: round(float(m), 4) for t, m in zip(TERMS, sums / counts) if m}
        questions = sum(batch.n_questions for batch in batches)
        return {**means, "question": round(float(whole) / questions, 5)}

    def agree(self, value: float) -> float:
        """RETURNS (float): The mean of a value over processes: the same for all."""
        if self.accelerator.num_processes == 1:
            return value
        told = torch.tensor(value, device=self.accelerator.device)
        return self.accelerator.reduce(told, "mean").item()

    @property
    def is_over(self) -> bool:
        """RETURNS (bool): Whether steps or minutes are used up; epochs end by themselves."""
        return self.done >= 1 and not self.tuning.epochs

    @property
    def done(self) -> float:
        """RETURNS (float): Share of the run that has passed, in [0, 1]."""
        if self.tuning.steps:
            return min(1.0, self.progress.step / self.tuning.steps)
        if self.tuning.minutes:
            return min(1.0, self.progress.seconds / (60 * self.tuning.minutes))
        return min(1.0, self.progress.place.next / self.end) if self.end else 0.0


def train(
    run: Run, folder: RunFolder, steps: Iterator[Tuple[Place, List]], dev: List[Batch]
) -> bool:
    """Train until the run is over, or somebody asks it to stop.

    run (Run): The run.
    folder (RunFolder): Where it keeps its states and its log.
    steps (Iterator[Tuple[Place, List]]): Where the stream of data stands after a step,
        and its batches.
    dev (List[Batch]): Held-out conversations.
    RETURNS (bool): Whether it is over.
    RAISES (InputError): If a loss is not finite: nothing of that step is learned.
    """
    stop, log = Stop(), Log(folder.log, run.accelerator)
    progress = run.progress
    begun = time.perf_counter() - progress.seconds
    saved, asked = progress.seconds, False
    while not run.is_over and not asked:
        place, batches = next(steps, (progress.place, []))
        if not batches:
            break
        try:
            losses = run.step(batches)
        except FloatingPointError as error:
            told = {"loss": error, "step": progress.step + 1}
            message = Errors.U082.format(**told, checkpoint=folder.latest())
            raise InputError(message) from None
        progress.step += 1
        progress.place = place
        progress.tokens += sum(batch.n_tokens for batch in batches)
        progress.seconds = run.agree(time.perf_counter() - begun)
        asked = run.agree(float(stop.asked)) > 0
        log.write(
            {
                **{name: round(value, 6) for name, value in losses.items()},
                "seconds": round(progress.seconds, 2),
                "tokens": progress.tokens,
                "conversations": place.next,
            },
            progress,
            run.done,
        )
        if progress.seconds - saved > 60 * run.tuning.save_minutes:
            saved = progress.seconds
            save(run, folder, log, dev)
    save(run, folder, log, dev)
    log.close()
    return not asked


def save(run: Run, folder: RunFolder, log: Log, dev: List[Batch]) -> None:
    """Measure, save the state, and keep the student if it is the best so far.

    run (Run): The run.
    folder (RunFolder): Where it keeps its states.
    log (Log): Where the loss on dev is told.
    dev (List[Batch]): Held-out conversations.
    RAISES (InputError): If the loss is not finite; the last good state stays.
    """
    progress, accelerator = run.progress, run.accelerator
    found = run.evaluate(dev)
    if not np.isfinite(found["question"]):
        told = {"loss": found["question"], "step": progress.step}
        raise InputError(Errors.U082.format(**told, checkpoint=folder.latest()))
    log.write({"dev": found}, progress, run.done)
    # the student first: a state must not know of a best one that is not there
    if found["question"] < progress.best:
        progress.best = found["question"]
        state = accelerator.get_state_dict(run.module)
        if accelerator.is_main_process:
            weights = run.trainee.named(state)
            so_far = {"step": progress.step, "dev": found}
            folder.keep(run.trainee, weights, {**folder.identity, **so_far})
    folder.save(accelerator, asdict(progress))


def make_packer(recipe: Recipe, counts: Counter, *, for_dev: bool = False) -> Packer:
    """RETURNS (Packer): Packs as the recipe says; for dev, without language losses."""
    share = 0.0 if for_dev else recipe.finetune.language_share
    packing = recipe.packing
    if isinstance(packing, WindowSettings):
        return Windows(
            packing.shape,
            tokens_per_batch=packing.tokens_per_batch,
            batches_per_step=packing.batches_per_step,
            language_share=share,
            counts=counts,
        )
    return Rows(
        length=packing.length,
        longest=packing.longest,
        layout=packing.layout,
        rows_per_batch=packing.rows_per_batch,
        conversations_per_step=packing.conversations_per_step,
        language_share=share,
        counts=counts,
    )


def read_dev(path: Path, coder: Coder, recipe: Recipe) -> List[Batch]:
    """Read held-out conversations.

    path (Path): Conversations.
    coder (Coder): Tokenizer and template.
    recipe (Recipe): The settings.
    RETURNS (List[Batch]): All of them, batch by batch.
    RAISES (InputError): If there is no question in them that can be learned.
    """
    counts: Counter = Counter()
    held_out = Conversations([path], seed=0)
    encode = Encoder(coder, counts, choices=recipe.has_choices)
    packer = make_packer(recipe, counts, for_dev=True)
    steps = stream(held_out, encode, packer, end=len(held_out))
    batches = [batch for _, step in steps for batch in step]
    if not sum(batch.n_questions for batch in batches):
        raise InputError(f"No question in {path} can be learned: {dict(counts)}.")
    return batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_settings(parser)
    parser.add_argument(
        "--conversations",
        type=Path,
        nargs="+",
        required=True,
        help="files that are read one after another: conversations, or passages",
    )
    parser.add_argument(
        "--dev", type=Path, required=True, help="held-out conversations"
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="folder; that of finetune.init if not given"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    args = parser.parse_args()
    recipe = Recipe.of(read_settings(args.config, args.set))
    tuning = recipe.finetune
    if args.tokenizer is None and not tuning.init:
        raise InputError("--tokenizer is missing: a student from scratch has none.")
    # a row of windows casts its weights itself
    is_fused = isinstance(recipe.packing, WindowSettings)
    mixed = "bf16" if tuning.precision == "bf16" and not is_fused else "no"
    accelerator = Accelerator(
        mixed_precision=mixed,
        log_with=list(tuning.trackers) or None,
        project_dir=args.out,
    )
    if accelerator.device.type == "cpu" and tuning.threads:
        torch.set_num_threads(tuning.threads)
    torch._dynamo.config.recompile_limit = 64  # one compilation per shape
    lock = alone(args.out / "run") if accelerator.is_main_process else nullcontext()
    with lock:
        if not finetune(args, recipe, accelerator):
            raise KeyboardInterrupt


def finetune(
    args: argparse.Namespace, recipe: Recipe, accelerator: Accelerator
) -> bool:
    """Run, from the files to the best checkpoint.

    args (argparse.Namespace): Paths.
    recipe (Recipe): The settings.
    accelerator (Accelerator): Of this process.
    RETURNS (bool): Whether the run is over; if not, somebody asked it to stop.
    """
    tuning, folder = recipe.finetune, RunFolder(args.out)
    tokenizer = args.tokenizer or find_checkpoint(tuning.init, hub=True).path
    loaded = load_tokenizer(Checkpoint(tokenizer, str(tokenizer), {}))
    coder = Coder(loaded, tuning.template, source=str(tokenizer))
    conversations = Conversations(args.conversations, seed=tuning.seed)
    dev = read_dev(args.dev, coder, recipe)
    folder.begin(
        {
            **asdict(recipe),
            "conversations": conversations.sums,
            "dev": {args.dev.name: sha256_of(args.dev)},
            "versions": {package: version(package) for package in PACKAGES},
        },
        tokenizer=tokenizer,
        is_main=accelerator.is_main_process,
    )
    run = Run(recipe, make_trainee(recipe, coder), accelerator)
    if tuning.epochs:
        run.end = round(tuning.epochs * len(conversations))
    state = folder.latest()
    if state is not None:
        accelerator.load_state(str(state), strict=recipe.lora is None)
        run.progress = Progress.read(state)
        if accelerator.is_main_process:
            folder.cut_log(run.progress.step)
    counts: Counter = Counter()
    encode = Encoder(
        coder, counts, choices=recipe.has_choices, all_turns=tuning.all_turns
    )
    packer = make_packer(recipe, counts)
    place = run.progress.place
    steps = stream(conversations, encode, packer, place=place, end=run.end)
    accelerator.init_trackers("uniner", config={"config": str(args.config)})
    is_over = train(run, folder, steps, dev)
    accelerator.end_training()
    if accelerator.is_main_process:
        write_json(args.out / "counts.json", dict(counts))
    return is_over


if __name__ == "__main__":
    run_script(main)
