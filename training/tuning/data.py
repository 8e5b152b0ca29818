"""Conversation files as one list that is read in a known order, from any place.

Everything is checked before training begins. The first epoch reads the files one
after another, each in its own order, so that their order is a curriculum; later
epochs read everything shuffled. Knows nothing of tokens.
"""

import hashlib
import json
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ..files import InputError
from ..turns import from_conversation, read_conversations


class Conversations:
    """The conversations of some files."""

    def __init__(self, paths: Sequence[Path], *, seed: int) -> None:
        """Read everything once, check it, and note where it lies.

        paths (Sequence[Path]): JSON lines of conversations or of passages, which have a
            "text" and no questions; or the official JSON array.
        seed (int): Of the order of later epochs.
        RAISES (InputError): At the first row that is neither, with file and line; if
            there is none at all.
        """
        self.seed = seed
        self.sums: Dict[str, str] = {}  # file name -> SHA-256
        self._files = [path.open("rb") for path in paths if _is_file(path)]
        self._places: List[Tuple[int, int]] = []
        self._rows: Dict[int, List[dict]] = {}  # of files that are one JSON array
        for number, path in enumerate(paths):
            self._index(number, path)
        if not self._places:
            told = ", ".join(map(str, paths))
            raise InputError(f"There is nothing to train on in {told}.")
        self._epoch, self._order = 0, np.arange(len(self))

    def __len__(self) -> int:
        return len(self._places)

    def at(self, number: int) -> dict:
        """Read one row.

        number (int): Its place in the order of reading; counts on over epochs.
        RETURNS (dict): The row.
        """
        epoch, place = divmod(number, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.arange(len(self))
            if epoch:
                np.random.default_rng((self.seed, epoch)).shuffle(self._order)
        file, offset = self._places[self._order[place]]
        if file in self._rows:
            return self._rows[file][offset]
        self._files[file].seek(offset)
        return json.loads(self._files[file].readline())

    def __iter__(self) -> Iterator[dict]:
        """YIELDS (dict): Every row once, as the first epoch reads them."""
        return (self.at(number) for number in range(len(self)))

    def _index(self, number: int, path: Path) -> None:
        digest = hashlib.sha256()
        if path.suffix == ".json":
            digest.update(path.read_bytes())
            self._rows[number] = rows = list(read_conversations(path))
            for i, row in enumerate(rows):
                _check(row, f"{path}, row {i + 1}")
            self._places += [(number, i) for i in range(len(rows))]
        else:
            offset = 0
            for i, line in enumerate(self._files[number], 1):
                digest.update(line)
                if line.strip():
                    _check(line, f"{path}, line {i}")
                    self._places.append((number, offset))
                offset += len(line)
        name = path.name if path.name not in self.sums else f"{path.name} ({number})"
        self.sums[name] = digest.hexdigest()


def _is_file(path: Path) -> bool:
    if not path.is_file():
        raise InputError(f"There is no file {path}. Run the step that writes it first.")
    return True


def _check(row: object, where: str) -> None:
    """Check that something is a conversation, or a passage.

    RAISES (InputError): If it is not, with where it stands.
    """
    try:
        if isinstance(row, bytes):
            row = json.loads(row)
        if isinstance(row, dict) and "conversations" in row:
            from_conversation(row)
        elif not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InputError("neither a conversation nor a passage with its text.")
    except ValueError as error:
        told = error if isinstance(error, InputError) else "not JSON in UTF-8."
        raise InputError(f"{where}: {told}") from None
