"""Check files against a list of SHA-256 sums, before work starts on them.

python -m training.verify assets/SHA256SUMS
"""

import argparse
import hashlib
from pathlib import Path

from .files import InputError, run_script


def sha256_of(path: Path) -> str:
    """RETURNS (str): The SHA-256 sum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sums", type=Path, help="lines of: sum, two blanks, file")
    args = parser.parse_args()
    lines = args.sums.read_text(encoding="utf8").splitlines()
    for line in lines:
        wanted, _, name = line.partition("  ")
        path = args.sums.parent / name
        if not path.is_file():
            raise InputError(f"{path} is missing; get it back with `git checkout`.")
        found = sha256_of(path)
        if found != wanted:
            raise InputError(f"{path} has SHA-256 {found}, but must have {wanted}.")
    print(f"{len(lines)} files are as they should be")


if __name__ == "__main__":
    run_script(main)
