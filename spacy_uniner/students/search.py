"""All lists that a student might write, as far as they matter: how likely it is that the
answer holds a mention.

One list, chosen token by token, names a mention only where it is likelier than all
else at every step. What is likely to be right over all lists scores better: F1 is
highest if everything is named that is right with a probability of at least half of
the F1 that is reached, which for open types is far below one half.
SOURCE: Lipton, Elkan and Naryanaswamy 2014, arXiv 1402.1892

A list is followed as long as it is likely enough. So what is found is a lower bound of
what is sought, and no question costs without end: with `LEAST`, at most 1 / 0.03 lists
are in hand at a time. It does not depend on the bound, or bounds could not be compared;
only bounds near it make it smaller.
"""

from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

import numpy as np

from .branch import Branch, Decoding, Shoot, Trunk, softmax
from .copying import Guess, Guide

LEAST = 0.03  # probability of a list that is followed
COUNTED = 0.1  # of that: lists less likely are not even counted where a mention ends
DRAFTED = 0.2  # probability of a list that is read with a draft: others mostly end soon


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
        self.least = min(LEAST, decoding.mention_bound / 2)

    def draft(self, shoot: Shoot) -> List[Guess]:
        """RETURNS (List[Guess]): What probably follows what is pending."""
        return super().draft(shoot) if shoot.p >= DRAFTED else []

    def grow(self, shoot: Shoot, logits: np.ndarray) -> List[Tuple[int, Shoot]]:
        """Choose what may follow.

        shoot (Shoot): A list so far.
        logits (np.ndarray): Of the next token. Shape: (n_vocab,)
        RETURNS (List[Tuple[int, Shoot]]): The tokens that are likely enough, with what
            is written then; nothing for lists that are complete.
        """
        guide = self.guide
        legal = guide.legal(shoot.state)
        p = shoot.p * softmax(logits[legal])
        empties = guide.empties(shoot.state)
        if empties is not None:
            self.written.p_empty += float(p[empties].sum())
        best = int(logits.argmax())
        further: List[Tuple[int, Shoot]] = []
        for at in np.flatnonzero(p >= COUNTED * self.least):
            token = int(legal[at])
            ids = (*shoot.ids, token)
            if guide.ends_mention(shoot.state, token):
                self.lists[ids] = float(p[at])
            if p[at] >= self.least:
                longer = replace(
                    shoot,
                    state=guide.advance(shoot.state, token),
                    ids=ids,
                    p=float(p[at]),
                    is_best=shoot.is_best and token == best,
                )
                if self._goes_on(longer):
                    further.append((token, longer))
        return further

    def _goes_on(self, shoot: Shoot) -> bool:
        """RETURNS (bool): Whether a list is neither complete nor too long."""
        if self.guide.is_closed(shoot.state):
            if shoot.is_best:
                self.written.ids, self.written.certified = list(shoot.ids), True
            return False
        if len(shoot.ids) == self.decoding.max_new_tokens:
            self.written.finished = False
            return False
        return True
