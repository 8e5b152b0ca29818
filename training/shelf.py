"""Passages on disk, taken out by number: memory holds only where each one begins.

Knows nothing of what is done with them.
"""

import json
import tempfile
from array import array
from typing import Tuple

from .sets import Labelled


class Shelf:
    """Labelled passages in a temporary file, in the order in which they were put."""

    def __init__(self) -> None:
        # buffered by the system: gone with the process, however it ends
        self._file = tempfile.TemporaryFile()
        self._starts = array("Q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._starts)

    def put(self, row: Labelled) -> int:
        """Put a passage on the shelf.

        row (Labelled): The passage.
        RETURNS (int): Its number.
        """
        values = [row.text, row.mentions, row.complete]
        line = json.dumps(values, ensure_ascii=False).encode("utf8") + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._starts.append(self._end)
        self._end += len(line)
        return len(self._starts) - 1

    def take(self, number: int) -> Labelled:
        """RETURNS (Labelled): The passage of that number."""
        self._file.seek(self._starts[number])
        values: Tuple[str, dict, bool] = json.loads(self._file.readline())
        return Labelled(*values)

    def close(self) -> None:
        """Throw the passages away."""
        self._file.close()
