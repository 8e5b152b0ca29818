"""All lists that a student might write, as far as they matter: how likely it is that the
answer holds a mention.

One list, chosen token by token, names a mention only where it is likelier than all
else at every step. What is likely to be right over all lists scores better: F1 is
highest if everything is named that is right with a probability of at least half of
the F1 that is reached, which for open types is far below one half.
SOURCE: Lipton, Elkan and Naryanaswamy 2014, arXiv 1402.1892

A list is followed as long as its own probability is a share of the bound. So what is
found is a lower bound of what is sought, and no question costs much: the lists in hand
at a time are fewer than one by that share.
"""

from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

import numpy as np

from .branch import Branch, Decoding, Shoot, Trunk, softmax
from .copying import Guide

FOLLOWED = 0.4  # of the bound: lists that are less likely are left
COUNTED = 0.04  # of the bound: what ends a mention less likely is left out of the sum


class Search(Branch):
    """A question, and the lists that might be written."""

    def __init__(
        self,
        passage: Trunk,
        question: Sequence[int],
        decoding: Decoding,
        *,
        guide: Guide,
    ) -> None:
        """Plant a branch.

        passage (Trunk): What is asked about.
        question (Sequence[int]): Token IDs of what is asked.
        decoding (Decoding): How answers are written; its `mention_bound` is above 0.
        guide (Guide): What lists may hold.
        """
        super().__init__(passage, question, decoding)
        self.guide: Guide = guide
        self.lists: Dict[Tuple[int, ...], float] = {}
        self.written.lists = self.lists
        self.written.certified = False  # until the greedy list is complete
        self.written.finished = True  # unless a list is cut

    def grow(self, shoot: Shoot, logits: np.ndarray) -> List[Tuple[int, Shoot]]:
        """Choose what may follow.

        shoot (Shoot): A list so far.
        logits (np.ndarray): Of the next token. Shape: (n_vocab,)
        RETURNS (List[Tuple[int, Shoot]]): The tokens that are likely enough, with what
            is written then; nothing for lists that are complete.
        """
        guide, written, bound = self.guide, self.written, self.decoding.mention_bound
        legal = guide.legal(shoot.state)
        p = shoot.p * softmax(logits[legal])
        empties = guide.empties(shoot.state)
        if empties is not None:
            written.p_empty += float(p[empties].sum())
        best = int(logits.argmax())
        out: List[Tuple[int, Shoot]] = []
        for at in np.flatnonzero(p >= COUNTED * bound):
            token, ids = int(legal[at]), (*shoot.ids, int(legal[at]))
            if guide.ends_mention(shoot.state, token):
                self.lists[ids] = float(p[at])
            if p[at] < FOLLOWED * bound:
                continue
            state = guide.advance(shoot.state, token)
            is_best = shoot.is_best and token == best
            if guide.is_closed(state):
                if is_best:
                    written.ids, written.certified = list(ids), True
            elif len(ids) == self.decoding.max_new_tokens:
                written.finished = False
            else:
                further = replace(
                    shoot, state=state, ids=ids, p=float(p[at]), is_best=is_best
                )
                out.append((token, further))
        return out
