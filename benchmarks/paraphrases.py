"""Ask for the same thing in other words: how far does an F1 move? (The paper's Figure 7,
as a number per label.)

Every label of a set is asked by its name, by each of some paraphrases, by a definition,
and by name and paraphrases together, whose answers the component merges. On dev parts
of sets that are no zero-shot tests.

    python -m benchmarks.paraphrases --mirror ../shared/data/mirror \\
        --names ../shared/data/types.jsonl --out benchmarks/results/paraphrases.json
"""

import argparse
import json
from pathlib import Path
from statistics import mean, pstdev
from typing import Any, Dict, List, Mapping, Sequence, Union

import spacy

from spacy_uniner.benchmark.examples import Example, draw, read_split
from spacy_uniner.benchmark.registry import load_sets
from spacy_uniner.benchmark.running import System, find
from spacy_uniner.benchmark.score import Prediction, score_set
from training.evaluate import describe_run
from training.files import read_rows, write_json

SETS = ("wnut17", "broad_tweet_corpus", "bc5cdr", "ncbi", "Stackoverflow-NER", "WLP")
N_PARAPHRASES = 4
ENOUGH = 20  # mentions of a label, below which its F1 is chance
Phrases = Mapping[str, Union[str, List[str]]]


def by_label(
    examples: Sequence[Example], types: Sequence[str], phrases: Phrases, model: str
) -> Dict[str, Any]:
    """Ask for types in given words.

    examples (Sequence[Example]): Passages. types (Sequence[str]): What is asked.
    phrases (Phrases): Type -> in what words; several are merged.
    model (str): The student.
    RETURNS (Dict[str, Any]): Scores of the set.
    """
    nlp = spacy.blank("en")
    student = {"@misc": "spacy-uniner.LocalStudent.v1", "model": model}
    nlp.add_pipe("uniner", config={"labels": dict(phrases), "student": student})
    system = System(nlp, "uniner", {kind: kind for kind in types})
    found = find(system, examples)
    told = [
        Prediction(e.text, e.spans, [span[:3] for span in f])
        for e, f in zip(examples, found)
    ]
    return score_set(told, types)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mirror", type=Path, required=True, help="raw files of sets")
    parser.add_argument("--names", type=Path, required=True, help="wordings of types")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--passages", type=int, default=300, help="a set")
    args = parser.parse_args()
    words = {row["name"]: row for row in read_rows(args.names)}
    sets, results = load_sets(), {**describe_run("benchmarks.paraphrases"), "sets": {}}
    for name in SETS:
        types = [kind for kind in sets[name].types if kind in words]
        listed = {kind: words[kind]["paraphrases"][:N_PARAPHRASES] for kind in types}
        examples = draw(
            read_split(sets[name], "dev", [args.mirror]),
            n_types=len(types),
            pairs=args.passages * len(types),
            seed=0,
        )
        kept = set(types)
        examples = [
            e._replace(spans=[s for s in e.spans if s[2] in kept]) for e in examples
        ]
        asked: Dict[str, Phrases] = {"name": {kind: kind for kind in types}}
        for i in range(N_PARAPHRASES):
            asked[f"paraphrase {i + 1}"] = {t: p[i % len(p)] for t, p in listed.items()}
        asked["definition"] = {kind: words[kind]["definition"] for kind in types}
        asked["merged"] = {kind: [kind, *p] for kind, p in listed.items()}
        scores = {
            how: by_label(examples, types, phrases, args.model)
            for how, phrases in asked.items()
        }
        results["sets"][name] = summary(scores, listed)
        write_json(args.out, results)
        print(name, json.dumps(results["sets"][name]["f1"]))
    whole = results["sets"].values()
    results["f1"] = {
        how: round(mean(each["f1"][how] for each in whole), 2)
        for how in ("name", "paraphrases", "definition", "merged")
    }
    labels = [label for each in whole for label in each["labels"].values()]
    results["deviation"] = round(mean(label["deviation"] for label in labels), 2)
    results["labels"] = len(labels)
    write_json(args.out, results)
    print(json.dumps({key: results[key] for key in ("f1", "deviation", "labels")}))


def summary(
    scores: Mapping[str, Any], listed: Mapping[str, List[str]]
) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): F1 of a set by wording, and for each label with enough
    mentions those of all its wordings with their standard deviation."""
    singles = [how for how in scores if how == "name" or how.startswith("paraphrase")]
    f1 = {how: found["official"]["f1"] for how, found in scores.items()}
    labels = {}
    for kind, phrases in listed.items():
        if scores["name"]["by_type"][kind]["mentions"] < ENOUGH:
            continue
        figures = {how: scores[how]["by_type"][kind]["f1"] for how in scores}
        labels[kind] = {
            "wordings": phrases,
            "f1": figures,
            "deviation": round(pstdev(figures[how] for how in singles), 2),
        }
    paraphrases = round(mean(f1[how] for how in singles if how != "name"), 2)
    kept = {how: f1[how] for how in ("name", "definition", "merged")}
    return {"f1": {**kept, "paraphrases": paraphrases}, "labels": labels}


if __name__ == "__main__":
    main()
