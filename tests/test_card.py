"""The model card, and what is pushed to a hub."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from spacy_uniner.students.checkpoint import SHIPPED
from training import card, publish
from training.files import InputError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(tmp_path):
    """The folder of a run, and what the other scripts wrote."""
    best = tmp_path / "run" / "best"
    best.mkdir(parents=True)
    shutil.copy(SHIPPED / "config.json", best)
    finetune = {"passage_weight": 0.05, "answer_weight": 0.05, "language_share": 0.1}
    finetune.update(matrix_rate=0.008, rate=0.0008)
    told = {"finetune": finetune, "step": 7, "dev": {"question": 1.09}}
    (best / "training.json").write_text(json.dumps(told))
    rows = [{"step": 7, "loss": 1.0, "seconds": 120.0, "tokens": 3_000_000}]
    rows.append({"step": 7, "dev": {"question": 1.09}})
    (tmp_path / "run" / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    score = {"f1": 12.34, "precision": 20.0, "recall": 9.0, "certified": 0.5}
    results = {
        "command": "python -m training.evaluate",
        "date": "2026-11-21",
        "machine": "x86_64, 2 cores",
        "zero_shot": {"mit_movie": score},
        "in_domain": {"wnut17": {**score, "certified": 0.75}},
        "zero_shot_average": 12.34,
        "rate": {
            "passages_per_second": 50,
            "types": 5,
            "words_per_passage": 20,
            "load_average": 0.1,
        },
    }
    fitted = {"error_before": 0.2, "error_after": 0.1, "n": 1000}
    greedy = {"empty_bound": 0.4, "mean_f1": {"0.4": 11.1}}
    calibration = {"mention_bound": 0.15, "mean_f1": {"0.15": 22.2}, "half": "toy"}
    calibration.update(greedy=greedy, questions=2000)
    calibration.update(empty=fitted, mention=fitted)
    report = {"weak": {"written": 10, "asked": 20}, "toy": {"written": 3, "asked": 9}}
    (tmp_path / "data" / "ner" / "toy").mkdir(parents=True)
    meta = {"licence": ["CC BY 4.0", "a | b"]}
    (tmp_path / "data" / "ner" / "toy" / "META.json").write_text(json.dumps(meta))
    config = '[card]\nnotes = "One run."\n\n[card.licences]\nweak = "see below"\n\n'
    config += '[conversations]\n\n[conversations.sources]\nweak = "9 answers -"\n'
    (tmp_path / "x.cfg").write_text(config + 'toy = "9 ner/toy train"\n')
    for name, value in (("results", results), ("calibration", calibration)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "report.json").write_text(json.dumps(report))
    return tmp_path


def test_card_tells_what_was_measured_and_what_it_was_made_of(run, monkeypatch):
    argv = ["card", "--config", str(run / "x.cfg"), "--data", str(run / "data")]
    argv += ["--run", str(run / "run"), "--report", str(run / "report.json")]
    argv += ["--results", str(run / "results.json")]
    argv += ["--calibration", str(run / "calibration.json")]
    argv += ["--out", str(run / "README.md")]
    monkeypatch.setattr(sys, "argv", argv)
    card.main()
    text = (run / "README.md").read_text(encoding="utf8")
    assert text.startswith("---\nlicense: cc-by-sa-4.0\n")
    for told in (
        "LLaMA of 16.9 M parameters (6 layers, hidden 384, 6 heads, 16,384 pieces",
        "| mit_movie | 12.3 | 20.0 | 9.0 | zero-shot |",
        "average over the seven sets: 12.34",
        "at least 0.15",
        "mean F1 22.2 there, of greedy answers at their best 11.1, `toy` weighing half",
        "50% (mit_movie) to 75% (wnut17)",
        "One run. The last: 2 minutes, 7 steps, 3.0 M tokens",
        "question 1.09 nats",
        "| toy | 3 | 9 | CC BY 4.0; a / b |",
        "| weak | 10 | 20 | see below |",
    ):
        assert told in text


def test_card_of_a_mean_tells_its_parts_and_no_loss():
    shares = [{"share": 0.75}, {"share": 0.25}]
    told = card._tell_kept({"averaged": shares, "dev": {"question": 1.09}})
    assert "mean of 2 checkpoints (shares 0.75, 0.25" in told and "1.09" not in told


class Hub:
    """What would be pushed."""

    def __init__(self):
        self.pushed = {}

    def create_repo(self, repo, **options):
        self.pushed["repo"] = repo, options

    def upload_folder(self, **options):
        self.pushed["folder"] = options
        return "https://hub/me/mine"


def test_publish_pushes_a_checkpoint_and_nothing_else(monkeypatch):
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    assert publish.publish(SHIPPED, "me/mine", private=True) == "https://hub/me/mine"
    assert hub.pushed["repo"] == ("me/mine", {"private": True, "exist_ok": True})
    assert hub.pushed["folder"]["allow_patterns"] == publish.PATTERNS


def test_publish_wants_a_card(tmp_path, monkeypatch):
    shutil.copytree(SHIPPED, tmp_path / "x", ignore=shutil.ignore_patterns("README.md"))
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(InputError, match="no card that tells its licence"):
        publish.publish(tmp_path / "x", "me/mine", private=False)


def test_publish_tells_why_a_hub_refuses(monkeypatch):
    hub = Hub()

    def refuse(*args, **options):
        raise ValueError("Repo id must be alphanumeric")

    hub.create_repo = refuse
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    with pytest.raises(InputError, match="did not take 'x/y/z': Repo id must be"):
        publish.publish(SHIPPED, "x/y/z", private=False)
