"""Passages on disk, taken out by number: memory holds only where each one begins.

Knows nothing of what is done with them.
"""

import json
import tempfile
from array import array
from dataclasses import asdict
from pathlib import Path

from .sets import Labelled


class Shelf:
    """Labelled passages in a temporary file, in the order in which they were put."""

    def __init__(self, folder: Path) -> None:
        """Put up a shelf.

        folder (Path): Where there is room; what is put there goes with the process.
        """
        self._file = tempfile.TemporaryFile(dir=folder)
        self._starts = array("Q")
        self._end = 0

    def put(self, row: Labelled) -> int:
        """Put a passage on the shelf.

        row (Labelled): The passage.
        RETURNS (int): Its number.
        """
        line = json.dumps(asdict(row), ensure_ascii=False).encode("utf8") + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._starts.append(self._end)
        self._end += len(line)
        return len(self._starts) - 1

    def take(self, number: int) -> Labelled:
        """RETURNS (Labelled): The passage of that number."""
        self._file.seek(self._starts[number])
        return Labelled(**json.loads(self._file.readline()))
