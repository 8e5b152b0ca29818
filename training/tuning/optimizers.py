"""Optimizers, and how their rates go up and down."""

import math
from typing import List, Mapping

import torch
from torch import Tensor

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear")


def rate_factor(done: float, *, warmup: float, decay: float, schedule: str) -> float:
    """Tell what rates are multiplied by: up, level, down to zero.

    done (float): Share of the run that has passed, in [0, 1].
    warmup (float): Share over which rates rise.
    decay (float): Share, at the end, over which they fall.
    schedule (str): How they fall: "cosine" or "linear".
    RETURNS (float): The factor, in [0, 1].
    """
    rising = done / warmup if done < warmup else 1.0
    left = min(1.0, max(0.0, (1 - done) / decay)) if decay else 1.0
    falling = (1 - math.cos(math.pi * left)) / 2 if schedule == "cosine" else left
    return min(rising, falling)


def make_optimizers(
    weights: Mapping[str, Tensor],
    *,
    optimizer: str,
    rate: float,
    matrix_rate: float,
    weight_decay: float,
) -> List[torch.optim.Optimizer]:
    """Make the optimizers of a student.

    weights (Mapping[str, Tensor]): Name -> weight that is trained.
    optimizer (str): "adamw" for all, or "muon" for matrices inside of layers and
        AdamW for the rest.
    rate (float): Of AdamW.
    matrix_rate (float): Of Muon.
    weight_decay (float): Per step and unit of rate; with "muon", of the matrices only.
    RETURNS (List[torch.optim.Optimizer]): The optimizers; groups know their full rate.
    """
    made: List[torch.optim.Optimizer] = []
    others = list(weights.values())
    if optimizer == "muon":
        inner = {n for n, w in weights.items() if w.ndim == 2 and "embed" not in n}
        others = [w for n, w in weights.items() if n not in inner]
        made.append(
            torch.optim.Muon(
                [w for n, w in weights.items() if n in inner],
                lr=matrix_rate,
                weight_decay=weight_decay,
                momentum=0.95,
                adjust_lr_fn="original",
            )
        )
    made.append(
        torch.optim.AdamW(
            others,
            lr=rate,
            betas=(0.9, 0.98 if optimizer == "muon" else 0.999),
            weight_decay=0.0 if optimizer == "muon" else weight_decay,
            fused=True,
        )
    )
    for one in made:
        for group in one.param_groups:
            group["full_rate"] = group["lr"]
    return made
