"""Check files against a list of SHA-256 sums, before work starts on them.

python -m training.verify assets/SHA256SUMS
"""

import argparse
from pathlib import Path

from spacy_uniner.sums import sha256_of

from .files import InputError, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sums", type=Path, help="lines of: sum, two blanks, file")
    args = parser.parse_args()
    lines = args.sums.read_text(encoding="utf8").splitlines()
    if not lines:
        raise InputError(f"{args.sums} lists no files.")
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
