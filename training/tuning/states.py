"""The folder of a run: what it was started with, its states, its log.

A state is whole or not there: it is written beside the others and renamed, and older
ones go afterwards. A run that was killed goes on from the newest.
"""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Tuple

from torch import Tensor

from ..files import InputError, read_rows, write_json, writing
from .students import Trainee, put_aside, write_checkpoint

if TYPE_CHECKING:
    from accelerate import Accelerator

# settings that change nothing about what comes out
FREE = ("save_minutes", "threads", "trackers")


class RunFolder:
    """Where a run keeps everything."""

    def __init__(self, path: Path) -> None:
        """Open a folder.

        path (Path): The folder; made if it is not there.
        """
        self.path = path
        self.identity: Dict[str, Any] = {}
        path.mkdir(parents=True, exist_ok=True)

    @property
    def best(self) -> Path:
        """RETURNS (Path): Where the best checkpoint goes."""
        return self.path / "best"

    @property
    def log(self) -> Path:
        """RETURNS (Path): The log, JSON lines."""
        return self.path / "log.jsonl"

    def latest(self) -> Optional[Path]:
        """RETURNS (Optional[Path]): The newest state; None if there is none."""
        found = [p for p in self.path.glob("state-*") if p.suffix != ".part"]
        return max(found, key=lambda p: int(p.name.split("-")[1]), default=None)

    def begin(
        self, identity: Dict[str, Any], *, tokenizer: Path, is_main: bool
    ) -> None:
        """Note what a run is started with, or hold it against what it was.

        identity (Dict[str, Any]): Settings and sums of data, JSON.
        tokenizer (Path): Folder of the tokenizer.
        is_main (bool): Whether this process writes.
        RAISES (InputError): If the run in the folder was started otherwise.
        """
        aside = put_aside(self.best)
        if is_main and aside.exists() and not self.best.exists():
            os.replace(aside, self.best)  # it was killed between two renames
        path = self.path / "run.json"
        self.identity = identity = json.loads(json.dumps(identity))
        self.tokenizer = tokenizer
        if self.latest() is None:
            if is_main:
                write_json(path, identity)
            return
        before = json.loads(path.read_text(encoding="utf8"))
        differ = [
            f"{name}: {old!r} there, {new!r} now"
            for name, old, new in _differences(before, identity)
            if name.split(".")[-1] not in FREE
        ]
        if differ:
            raise InputError(
                f"The run in {self.path} was started otherwise. {'; '.join(differ)}. "
                "Use a new --out, or what it was started with."
            )

    def keep(
        self, trainee: Trainee, weights: Dict[str, Tensor], told: Dict[str, Any]
    ) -> None:
        """Keep a student as the best one.

        trainee (Trainee): The student.
        weights (Dict[str, Tensor]): Its weights by their transformers names.
        told (Dict[str, Any]): How it was made.
        """
        write_checkpoint(
            self.best, trainee.config, weights, tokenizer=self.tokenizer, told=told
        )

    def save(self, accelerator: "Accelerator", progress: Dict[str, Any]) -> None:
        """Save everything that going on needs; called by every process.

        accelerator (Accelerator): With student, optimizers and random states.
        progress (Dict[str, Any]): Where the run stands, JSON.
        RAISES (OSError): If the disk is full; older states stay.
        """
        whole = self.path / f"state-{progress['step']}"
        part = whole.with_suffix(".part")
        if whole.exists():  # of a run that went on and had nothing left to do
            return
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(part))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json(part / "progress.json", progress)
            os.replace(part, whole)
            for other in self.path.glob("state-*"):
                if other != whole:
                    shutil.rmtree(other, ignore_errors=True)
        accelerator.wait_for_everyone()

    def cut_log(self, step: int) -> None:
        """Drop from the log what came after a step, and will come again.

        step (int): The last step that stays.
        """
        if not self.log.exists():
            return
        rows = [
            row for row in read_rows(self.log, faults=Counter()) if row["step"] <= step
        ]
        with writing(self.log) as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)


def _differences(
    before: Any, now: Any, name: str = ""
) -> Iterator[Tuple[str, Any, Any]]:
    """YIELDS (Tuple[str, Any, Any]): Where two nested mappings differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(k for k in now if k not in before)]:
            below = f"{name}.{key}" if name else key
            yield from _differences(before.get(key), now.get(key), below)
    elif before != now:
        yield name, before, now
