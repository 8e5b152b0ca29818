"""Replace the shipped student: copy a checkpoint and write its manifest.

python -m training.package --checkpoint runs/mini/student/best --out spacy_uniner/mini
"""

import argparse
import shutil
from pathlib import Path

from spacy_uniner.sums import sha256_of

from .files import run_script, write_json

FILES = (
    "config.json",
    "calibration.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.json",
)
LIMIT = 64 * 2**20  # bytes, of the whole folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    size = sum((args.checkpoint / name).stat().st_size for name in FILES)
    if size > LIMIT:
        parser.error(f"the checkpoint has {size:,} bytes, {LIMIT:,} are allowed")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, "README.md"):
        shutil.copy(args.checkpoint / name, args.out / name)
    digests = {name: sha256_of(args.out / name) for name in FILES}
    write_json(args.out / "manifest.json", digests)
    print(f"{size / 2**20:.1f} MiB -> {args.out}")


if __name__ == "__main__":
    run_script(main)
