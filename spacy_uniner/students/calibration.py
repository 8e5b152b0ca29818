"""What a checkpoint's probabilities are worth: a file beside it, fitted on held-out
data, that makes them mean how often they are right.

A temperature and a shift in log-odds (Platt's scaling) keep the order, so that they
decide nothing; only thresholds feel them. `training.calibrate` writes the file.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import Errors

FILE = "calibration.json"
LEAST_BOUND = 0.01
LEAST = 1e-9  # probabilities are kept this far from 0 and 1


def is_bound(name: str, value: float) -> bool:
    """Tell whether a dial may be set so. A search with a smaller bound follows more
    lists; below 0.01 it would hardly end.

    name (str): "mention_bound" or "empty_bound".
    value (float): The bound.
    RETURNS (bool): Whether it is allowed.
    """
    if name == "mention_bound" and value == 0.0:
        return True
    return (LEAST_BOUND if name == "mention_bound" else 0.0) <= value <= 1.0


@dataclass(frozen=True)
class Scale:
    """A line in log-odds.

    temperature (float): What log-odds are divided by.
    shift (float): What is added then.
    """

    temperature: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        """RAISES (ValueError): If a number is none, or would turn the order round."""
        if not (math.isfinite(self.shift) and 0.05 <= self.temperature < math.inf):
            raise ValueError(f"{self}: a temperature must be at least 0.05")

    def __call__(self, p: float) -> float:
        """RETURNS (float): The probability that it is right."""
        if self == Scale():
            return p
        return 1 / (1 + math.exp(-(log_odds(p) / self.temperature + self.shift)))


@dataclass(frozen=True)
class Calibration:
    """How to read the probabilities of a checkpoint.

    empty_bound (float): A greedy answer is empty when the probability of that, as the
        model tells it, is at least this.
    mention_bound (float): A mention is named when its probability, as the model tells
        it, is at least this; 0 for greedy answers.
    empty (Scale): For the probability of the empty list.
    mention (Scale): For the probability of a mention, as it is where it was fitted: of
        searched answers, or of greedy ones if `mention_bound` is 0.
    """

    empty_bound: float = 0.5
    empty: Scale = Scale()
    mention: Scale = Scale()
    mention_bound: float = 0.0

    def __post_init__(self) -> None:
        """RAISES (ValueError): If a bound is none."""
        for name in ("empty_bound", "mention_bound"):
            if not is_bound(name, getattr(self, name)):
                raise ValueError(f"{name} {getattr(self, name)} is not allowed")

    @classmethod
    def of(cls, folder: Path) -> "Calibration":
        """Read the file of a checkpoint; without one, nothing is changed.

        folder (Path): The checkpoint.
        RETURNS (Calibration): What it says.
        RAISES (ValueError): U046, if it can't be read.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            found = json.loads(path.read_text(encoding="utf8"))
            return cls(
                float(found["empty_bound"]),
                Scale(**found["empty"]),
                Scale(**found["mention"]),
                float(found.get("mention_bound", 0.0)),
            )
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError(Errors.U046.format(path=str(path), problem=e)) from e

    def save(self, folder: Path) -> None:
        """Write the file of a checkpoint.

        folder (Path): The checkpoint.
        """
        text = json.dumps(asdict(self), indent=1) + "\n"
        (folder / FILE).write_text(text, encoding="utf8")


def log_odds(p: float) -> float:
    """RETURNS (float): Log-odds of a probability, which is kept from 0 and 1."""
    p = min(max(p, LEAST), 1 - LEAST)
    return math.log(p / (1 - p))
