"""Average the weights of checkpoints that went on from one another, or from the same one.

Such checkpoints lie in one valley of the loss, and their mean is often better than each
on held-out data; `training.calibrate` tells whether it is.

SOURCE: Wortsman et al. 2022, "Model soups", arXiv 2203.05482

    python -m training.average first/best second/best --shares 0.5 0.5 --out DIR
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Dict, List, Sequence

import torch
from safetensors.torch import load_file, save_file

from spacy_uniner.sums import sha256_of

from .files import InputError, run_script, write_json

WEIGHTS = "model.safetensors"
# what the checkpoints must have in common
SHARED = ("config.json", "tokenizer.json", "tokenizer_config.json")


def average(checkpoints: Sequence[Path], shares: Sequence[float], out: Path) -> None:
    """Write the mean of checkpoints.

    checkpoints (Sequence[Path]): Folders, each with one file of weights.
    shares (Sequence[float]): What each counts; they sum to 1.
    out (Path): Folder of the new checkpoint. Its `training.json` is that of the one
        with the largest share, without the losses of that, and names them all.
    RAISES (InputError): If they do not go together.
    """
    _check(checkpoints, shares)
    total: Dict[str, torch.Tensor] = {}
    for path, share in zip(checkpoints, shares):
        for name, weight in load_file(str(path / WEIGHTS)).items():
            total[name] = total.get(name, torch.zeros(())) + share * weight.float()
    _, first = max(zip(shares, checkpoints), key=lambda pair: pair[0])
    weights = load_file(str(first / WEIGHTS))
    mean = {name: total[name].to(weight.dtype) for name, weight in weights.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        shutil.copy(first / name, out / name)
    save_file(mean, str(out / WEIGHTS), metadata={"format": "pt"})
    told = json.loads((first / "training.json").read_text(encoding="utf8"))
    told.pop("dev", None)  # of one of them, not of the mean
    told["averaged"] = [
        {"share": share, "sha256": sha256_of(path / WEIGHTS)}
        for path, share in zip(checkpoints, shares)
    ]
    write_json(out / "training.json", told)


def _check(checkpoints: Sequence[Path], shares: Sequence[float]) -> None:
    if len(checkpoints) != len(shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            f"--shares must be {len(checkpoints)} numbers that sum to 1, one for each "
            f"checkpoint, got {list(shares)}."
        )
    for name in (*SHARED, WEIGHTS):
        for path in checkpoints:
            if not (path / name).is_file():
                raise InputError(f"{path} is no checkpoint with one file: no {name}.")
    for name in SHARED:
        if len({sha256_of(path / name) for path in checkpoints}) > 1:
            raise InputError(
                f"The checkpoints differ in {name}: no mean of them exists."
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    checkpoints: List[Path] = args.checkpoints
    average(checkpoints, args.shares, args.out)
    print(f"mean of {len(checkpoints)} checkpoints -> {args.out}")


if __name__ == "__main__":
    run_script(main)
