"""Hold the weak teacher against a large one: where both name the same mention, do
their types agree?

Agreement is lenient: the types share a word, or one is a kind of the other in
WordNet. What only one of the two names is not judged.

python -m benchmarks.gazetteer --data ../shared/data --out benchmarks/results/gazetteer.json
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence

from training.evaluate import describe_run
from training.files import read_rows
from training.gazetteer import (
    Names,
    Votes,
    clear_kinds,
    drop_common,
    find_names,
    read_names,
)
from training.negatives import WordNet, words_of

ANNOTATED = "ner/llm_teacher_open/train.jsonl.gz"
LISTS = (
    "oewn_noun_hypernym",
    "oewn_named_instances",
    "disease_ontology",
    "medquad_focus",
    "linguist_languages",
    "typenet_examples",
    "world_places_dr5hn",
)


class Judge:
    """Counts how often the weak teacher is right."""

    def __init__(self, names: Names, votes: Votes, wordnet: WordNet) -> None:
        self.names, self.votes, self.wordnet = names, votes, wordnet
        self.counts: Counter = Counter()

    def agrees(self, ours: Sequence[str], theirs: Sequence[str]) -> bool:
        """RETURNS (bool): Whether any of our types is about one of theirs."""
        return any(
            bool(words_of(a) & words_of(b)) or self.wordnet.is_related(a, b)
            for a in ours
            for b in theirs
        )

    def judge(self, text: str, told: Dict[str, List[str]]) -> None:
        """Judge one passage.

        text (str): The passage.
        told (Dict[str, List[str]]): Mention -> types of the large teacher.
        """
        clear, around = self.names.clear, clear_kinds(text, self.names)
        for mention, name in find_names(text, self.names):
            if mention not in told:
                continue
            if name in clear:
                agreed = self.agrees(clear[name], told[mention])
                self.counts["clear", agreed] += 1
                continue
            decided = self.votes.decide(name, around)
            if not decided:
                self.counts["undecided"] += 1
                continue
            senses = self.names.doubtful[name]
            self.counts["decidable"] += self.agrees(senses, told[mention])
            self.counts["decided", self.agrees([decided], told[mention])] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--passages", type=Path, help="more passages, for the votes")
    args = parser.parse_args()
    lists = args.data / "gazetteer"
    rows = list(read_rows(args.data / ANNOTATED))
    texts = [row["text"] for row in rows]
    texts += [row["text"] for row in read_rows(args.passages)] if args.passages else []
    names = drop_common(read_names([lists / f"{n}.jsonl.gz" for n in LISTS]), texts)
    votes = Votes(names)
    for text in texts:
        votes.count(clear_kinds(text, names))
    wordnet = WordNet.from_file(lists / "oewn_noun_synsets.jsonl.gz")
    judge = Judge(names, votes, wordnet)
    for row in rows:
        judge.judge(row["text"], {m: kinds for m, *kinds in row["entities"]})
    counts = judge.counts
    n_clear = counts["clear", True] + counts["clear", False]
    n_decided = counts["decided", True] + counts["decided", False]
    results = {
        **describe_run("benchmarks.gazetteer"),
        "names": {"clear": len(names.clear), "doubtful": len(names.doubtful)},
        "clear": n_clear,
        "clear_agree": round(counts["clear", True] / n_clear, 4),
        "decided_by_company": n_decided,
        "decided_agree": round(counts["decided", True] / n_decided, 4),
        "a_sense_agrees": round(counts["decidable"] / n_decided, 4),
        "undecided": counts["undecided"],
    }
    args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
