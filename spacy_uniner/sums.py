"""The sum by which a file is known again. Imports nothing of ours."""

import hashlib
from pathlib import Path

BLOCK = 1 << 20  # bytes: weights are many gigabytes, so they are read in pieces


def sha256_of(path: Path) -> str:
    """RETURNS (str): The SHA-256 sum of a file, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(BLOCK):
            found.update(block)
    return found.hexdigest()
