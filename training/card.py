"""Write the model card: what a student was trained on, how, and what it scores.

Every figure comes from a JSON file that a script wrote; licences from the
`META.json` of each set.

    python -m training.card --config training/configs/mini.cfg --data DIR --run RUN \\
        --report conversations.report.json --results results.json --out README.md
"""

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List

from confection import Config

from .files import read_rows, run_script, writing

CHATGPT = 47.5  # average over the seven zero-shot sets, UniversalNER paper, Table 3
UNINER_7B = 53.4  # UniNER-7B-type, the same table

TEXT = """---
license: cc-by-sa-4.0
language: en
library_name: spacy
tags: [ner, zero-shot, spacy, uniner]
---
# mini, the student that ships with spacy-uniner

A LLaMA of {parameters:.1f} M parameters ({layers} layers, hidden {hidden}, {heads} heads, {vocab:,} pieces of
byte-level BPE, tied embeddings), trained from scratch. Asked for a type, it answers with a JSON list of mentions.
No weights of anybody else went into it. Template: `<s> PASSAGE<q> TYPE<a>` (`mini` in `spacy_uniner/prompt.py`).

## Scores

Strict micro-F1 with the official normalization, on whole test sets, from `{command}`
({date}, {machine}).

| set | F1 | precision | recall | |
|---|---|---|---|---|
{rows}

**Zero-shot average over the seven sets: {zero_shot}.** For comparison, as published (UniversalNER, Table 3): ChatGPT {chatgpt},
UniNER-7B {uniner}. A model of this size, trained for minutes on two processor cores, is far from them: it is here so that
everything runs, offline and at once; for quality use a larger checkpoint (`model = ...`).

Zero-shot sets were never trained on, and no setting was fitted on them; training passages that share a sentence or
13 words in a row with their dev or test parts were dropped. `certified`: plain greedy decoding over the whole
vocabulary would have said the same in {least:.0%} ({least_set}) to {most:.0%} ({most_set}) of the answers.

A mention is named when the answer holds it with a probability of at least {dial}, over all lists that might be written (`mention_bound`,
fitted on dev data by `training/calibrate.py`: mean F1 {searched} there, of greedy answers at their best {greedy}{weights}). Probabilities are scaled on dev data; expected calibration error on held-out halves of it, before and after:
mentions {mention_before:.3f} and {mention_after:.3f}, emptiness {empty_before:.3f} and {empty_after:.3f} ({n_mentions:,} mentions, {n_questions:,} questions).

Rate on the machine above: {rate} passages/s for {rate_types} types ({rate_words} words a passage, load average {load}).

## Training

{notes} The last: {minutes:.0f} minutes, {steps:,} steps, {tokens:.1f} M tokens (padding included).
One row per passage, a branch per question under a block mask, so that training sees what inference sees. Loss over the
legal pieces of each answer, plus losses over the whole vocabulary on {lm_share:.0%} of the rows (weights: passages {passage_weight}, answers {answer_weight}). Muon ({muon}) and AdamW ({adamw}).
{kept}
Everything is in `training/configs/`; `spacy project run mini` does it again.

## Data

Only sets whose licence allows redistribution of what is built from them; the list as their sources state it.
`passages` counts what was sampled for the whole file of conversations, repeats included.

| source | passages | questions | licence |
|---|---|---|---|
{sources}

`weak` are the names and nouns of gazetteers (Open English WordNet CC BY 4.0, Disease Ontology CC0, MedQuAD CC BY 4.0,
linguist MIT, typenet CC0, world places ODbL) found in free text (public-domain novels, medical and science prose,
software documentation, encyclopaedia sentences). Wordings of types: paraphrases and definitions written by a language model.

## Limits

English; sentences and short paragraphs (up to 144 pieces in training). Knows few names and rare types badly. Mentions are verbatim
by construction, but may be of the wrong type; a text can talk it into naming other spans, never into anything but spans of the text.
Probabilities are right on average over the dev sets; on other text and other types they may be off.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of training.finetune"
    )
    parser.add_argument(
        "--report", type=Path, required=True, help="of training.conversations"
    )
    parser.add_argument(
        "--results", type=Path, required=True, help="of training.evaluate"
    )
    parser.add_argument(
        "--calibration", type=Path, required=True, help="of training.calibrate"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config = Config().from_disk(args.config)
    report = _json(args.report)
    text = TEXT.format(
        notes=config["card"]["notes"],
        sources="\n".join(_source_rows(config, report, args.data)),
        **_about_student(_json(args.run / "best" / "config.json")),
        **_about_training(args.run),
        **_about_scores(_json(args.results)),
        **_about_calibration(_json(args.calibration)),
    )
    with writing(args.out) as out:
        out.write(text)
    print(f"card -> {args.out}")


def _json(path: Path) -> Dict[str, Any]:
    return json.loads(path.read_text(encoding="utf8"))


def _about_student(config: Dict[str, Any]) -> Dict[str, Any]:
    d, layers = config["hidden_size"], config["num_hidden_layers"]
    per_layer = 4 * d * d + 3 * d * config["intermediate_size"] + 2 * d
    return {
        "parameters": (config["vocab_size"] * d + layers * per_layer + d) / 1e6,
        "layers": layers,
        "hidden": d,
        "heads": config["num_attention_heads"],
        "vocab": config["vocab_size"],
    }


def _about_training(run: Path) -> Dict[str, Any]:
    told = _json(run / "best" / "training.json")
    rows = list(read_rows(run / "log.jsonl"))
    last = [row for row in rows if "seconds" in row][-1]
    finetune = told["finetune"]
    return {
        "minutes": last["seconds"] / 60,
        "steps": last["step"],
        "tokens": last["tokens"] / 1e6,
        "passage_weight": finetune["passage_weight"],
        "answer_weight": finetune["answer_weight"],
        "lm_share": finetune["language_share"],
        "muon": finetune["matrix_rate"],
        "adamw": finetune["rate"],
        "kept": _tell_kept(told),
    }


def _tell_kept(told: Dict[str, Any]) -> str:
    if "averaged" in told:
        shares = ", ".join(f"{each['share']:g}" for each in told["averaged"])
        return (
            f"The weights are the mean of {len(told['averaged'])} checkpoints (shares {shares}; "
            "`training.average`), chosen by mean F1 on held-out dev passages."
        )
    dev = ", ".join(f"{name} {loss}" for name, loss in told["dev"].items())
    return f"The checkpoint with the lowest loss on held-out dev passages was kept (dev: {dev} nats)."


def _about_scores(results: Dict[str, Any]) -> Dict[str, Any]:
    scores = {**results["zero_shot"], **results["in_domain"]}
    by_certified = sorted(scores, key=lambda name: scores[name]["certified"])
    least, most = by_certified[0], by_certified[-1]
    return {
        "command": results["command"],
        "date": results["date"],
        "machine": results["machine"],
        "rows": "\n".join(_score_rows(results)),
        "zero_shot": results["zero_shot_average"],
        "chatgpt": CHATGPT,
        "uniner": UNINER_7B,
        "least": scores[least]["certified"],
        "least_set": least,
        "most": scores[most]["certified"],
        "most_set": most,
        "rate": results["rate"]["passages_per_second"],
        "rate_types": results["rate"]["types"],
        "rate_words": results["rate"]["words_per_passage"],
        "load": results["rate"]["load_average"],
    }


def _about_calibration(calibration: Dict[str, Any]) -> Dict[str, Any]:
    bound, greedy = calibration["mention_bound"], calibration["greedy"]
    half = calibration["half"]
    return {
        "dial": bound,
        "searched": calibration["mean_f1"][str(bound)],
        "greedy": greedy["mean_f1"][str(greedy["empty_bound"])],
        "weights": f", `{half}` weighing half" if half else "",
        "mention_before": calibration["mention"]["error_before"],
        "mention_after": calibration["mention"]["error_after"],
        "empty_before": calibration["empty"]["error_before"],
        "empty_after": calibration["empty"]["error_after"],
        "n_mentions": calibration["mention"]["n"],
        "n_questions": calibration["questions"],
    }


def _score_rows(results: Dict) -> List[str]:
    groups = (("zero_shot", "zero-shot"), ("in_domain", "in-domain"))
    return [
        f"| {name} | {s['f1']:.1f} | {s['precision']:.1f} | {s['recall']:.1f} | {told} |"
        for group, told in groups
        for name, s in results[group].items()
    ]


def _source_rows(config: Config, report: Dict, data: Path) -> List[str]:
    rows = []
    for name, spec in config["conversations"]["sources"].items():
        path = str(spec).split()[1]
        licence = config["card"]["licences"].get(name, "")
        if not licence:
            licence = json.loads((data / path / "META.json").read_text())["licence"]
            licence = "; ".join(licence) if isinstance(licence, list) else licence
        told = " ".join(str(licence).replace("|", "/").split())
        told = told if len(told) < 160 else told[:157] + "..."
        counts = report[name]
        rows.append(
            f"| {name} | {counts['written']:,} | {counts['asked']:,} | {told} |"
        )
    return rows


if __name__ == "__main__":
    run_script(main)
