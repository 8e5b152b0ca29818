"""Which questions a passage gets, and in what words.

Present types, absent ones, how many of each, and the names, paraphrases and
definitions that they are asked by. Knows nothing of files.
"""

import random
from dataclasses import dataclass
from typing import List, Sequence

from .negatives import Negatives, check_strategy
from .sets import Labelled
from .turns import Question


@dataclass(frozen=True)
class Sampling:
    """Which questions a passage gets.

    max_present (int): Present types asked, per passage.
    max_absent (int): Absent types of the same set or answer asked, per passage.
    negatives (int): Absent types drawn from all types, per passage.
    strategy (str): How: "none", "uniform", "frequency" or "hard".
    general (int): The most frequent types are never drawn as absent for a set
        that annotates few types; this says how many.
    paraphrased (float): Share of questions that use a paraphrase, where known.
    defined (float): Share of questions that ask by a definition, where known.
    lowercased (float): Share of passages written in lower case.
    empty_share (float): Share kept of passages of a set where nothing is marked.
    closed_share (float): Share of the limits of sets with a closed list of types that
        is taken; less of it gives more weight to open types.
    together (float): Share of passages asked for all types at once (all-in-one).
    dataset (float): Share of passages of sets that name the set.
    """

    # answers to all types at once are for other trainers: `training.finetune` leaves out
    # what is no list of mentions

    max_present: int = 8
    max_absent: int = 5
    negatives: int = 2
    strategy: str = "frequency"
    general: int = 80
    paraphrased: float = 0.35
    defined: float = 0.03
    lowercased: float = 0.12
    empty_share: float = 0.25
    closed_share: float = 1.0
    together: float = 0.0
    dataset: float = 0.0

    def __post_init__(self) -> None:
        check_strategy(self.strategy)


class TypeNames:
    """The wordings of a type: as a person would ask, paraphrased, defined."""

    def __init__(self, rows: Sequence[dict], sampling: Sampling) -> None:
        self.rows = {row["type"]: row for row in rows}
        self.sampling = sampling

    def draw(self, entity_type: str, rng: random.Random) -> str:
        """Draw one wording of a type.

        entity_type (str): The name that the set uses.
        rng (random.Random): Where chance comes from.
        RETURNS (str): What is asked.
        """
        row = self.rows.get(entity_type)
        chance = rng.random()
        if row is None:
            return entity_type
        if chance < self.sampling.defined:
            return row["definition"]
        if chance < self.sampling.defined + self.sampling.paraphrased:
            return rng.choice(row["paraphrases"] or [row["name"]])
        return row["name"] if chance < 0.75 else entity_type


def ask(
    row: Labelled,
    own_types: Sequence[str],
    negatives: Negatives,
    sampling: Sampling,
    rng: random.Random,
) -> List[Question]:
    """Choose the questions for a passage.

    row (Labelled): The passage.
    own_types (Sequence[str]): The closed list of types of its set; empty if open.
    negatives (Negatives): Where absent types come from.
    sampling (Sampling): How many.
    rng (random.Random): Where chance comes from.
    RETURNS (List[Question]): (type, mentions), in random order.
    """
    present = [t for t, mentions in row.mentions.items() if mentions]
    absent = [t for t, mentions in row.mentions.items() if not mentions]
    known = [*dict.fromkeys([*row.mentions, *row.doubtful, *own_types])]
    if row.complete:
        absent += [t for t in own_types if t not in row.mentions]
    rng.shuffle(present)
    rng.shuffle(absent)
    asked = present[: sampling.max_present] + absent[: sampling.max_absent]
    if not row.cut:
        asked += negatives.draw(known, sampling.negatives, rng)
    rng.shuffle(asked)
    return [(t, row.mentions.get(t, [])) for t in asked]
