"""Where a run stands, what it tells while it goes on, and whether it is asked to stop."""

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Dict, Optional

from accelerate import Accelerator
from tqdm import tqdm

from .stream import Place


@dataclass
class Progress:
    """Where a run stands: saved with every state.

    step (int): Steps done. seconds (float): Time they took.
    tokens (int): Tokens read, padding included. best (float): Lowest loss on dev, in
    nats per question. place (Place): Where the stream of data stands.
    """

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    best: float = float("inf")
    place: Place = field(default_factory=Place)

    @classmethod
    def read(cls, path: Path) -> "Progress":
        """RETURNS (Progress): What a state tells."""
        told = json.loads((path / "progress.json").read_text(encoding="utf8"))
        place = told.pop("place")
        waiting = [(n, part) for n, part in place.pop("waiting")]
        return cls(**told, place=Place(waiting=waiting, **place))


class Stop:
    """Whether somebody asked the run to end: Ctrl-C, or a scheduler's SIGTERM."""

    def __init__(self) -> None:
        self.asked = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Optional[FrameType]) -> None:
        if self.asked:  # asked twice: at once
            raise KeyboardInterrupt
        self.asked = number


class Log:
    """What a run tells: a log, a bar on a terminal, and trackers."""

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        """Open a log.

        path (Path): JSON lines; rows are added.
        accelerator (Accelerator): Of this process, with its trackers.
        """
        self.accelerator = accelerator
        is_main = accelerator.is_main_process
        self.out = path.open("a", encoding="utf8") if is_main else None
        hidden = None if is_main else True  # None: shown on a terminal only
        self.bar = tqdm(total=100, unit="%", desc="training", disable=hidden)

    def write(self, row: Dict[str, Any], progress: Progress, done: float) -> None:
        """Write a row about the last step.

        row (Dict[str, Any]): Names and values.
        progress (Progress): Where the run stands.
        done (float): Share of the run that has passed, in [0, 1].
        """
        if self.out is not None:
            self.out.write(json.dumps({"step": progress.step, **row}) + "\n")
            self.out.flush()
        self.accelerator.log(row, step=progress.step)
        self.bar.set_postfix(best=f"{progress.best:.4f}")
        self.bar.update(round(100 * done, 1) - self.bar.n)

    def close(self) -> None:
        """Close the log, and the bar."""
        self.bar.close()
        if self.out is not None:
            self.out.close()
