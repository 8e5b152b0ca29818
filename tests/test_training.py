"""Training: packing, the fast forward against transformers, resuming."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spacy_uniner.students.checkpoint import SHIPPED, find_checkpoint, load_tokenizer
from spacy_uniner.students.coding import Coder
from training.network import Network, Sizes, as_tensors, init_weights, to_transformers
from training.packing import (
    Counts,
    Shape,
    make_batch,
    pack_conversation,
    stream_batches,
)
from training.sets import join_tokens
from training.turns import to_conversation

SHAPE = Shape(passage=(32, 64, 128), window=24, max_windows=3)
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def coder():
    return Coder(load_tokenizer(find_checkpoint("mini")), "mini")


def conversations():
    """Real passages with their questions, as conversations."""
    lines = (ROOT / "tests" / "data" / "passages.jsonl").read_text(encoding="utf8")
    for i, line in enumerate(lines.splitlines()):
        row = json.loads(line)
        yield to_conversation(str(i), row["text"], list(row["queries"].items()))


def pack(coder, counts=None):
    packed = (
        pack_conversation(c, coder, SHAPE, counts or Counts()) for c in conversations()
    )
    return [p for p in packed if p]


def test_packing_keeps_every_branch_apart_and_every_choice_legal(coder):
    for (width, n_windows), row in pack(coder):
        batch = make_batch([row], width, language_model_rows=0)
        assert batch.branches.shape == (1, n_windows * SHAPE.window)
        chosen = np.flatnonzero(batch.chosen[0] >= 0)
        assert len(chosen)
        # what is right is among what is legal, and there is something to choose from
        assert batch.legal[0, chosen, batch.chosen[0, chosen]].all()
        for owner in range(batch.owner.max() + 1):
            places = batch.place[0, batch.owner[0] == owner]
            assert places.tolist() == list(range(len(places)))


def test_packing_counts_what_it_leaves_out(coder):
    counts = Counts()
    pack(coder, counts)
    long = to_conversation("long", "word " * 500, [("person", [])])
    assert pack_conversation(long, coder, SHAPE, counts) is None
    assert counts.too_long >= 1
    inside = to_conversation("inside", "Yorkshire", [("place", ["orks"])])
    assert pack_conversation(inside, coder, SHAPE, counts) is None
    assert counts.unspelled >= 1


def test_batches_that_are_not_full_come_if_asked_for(coder, tmp_path):
    path = tmp_path / "conversations.jsonl"
    path.write_text("".join(json.dumps(c) + "\n" for c in conversations()))
    settings = {"tokens_per_batch": 10**6, "language_model_share": 0}

    def stream(**more):
        counts = Counts()
        batches = stream_batches(path, coder, SHAPE, counts=counts, **settings, **more)
        return sum(len(batch.passage) for _, batch in batches)

    assert stream() == 0 and stream(rest=True) == len(pack(coder))


def test_network_equals_transformers_branch_by_branch(coder):
    """The mask of training is what a branch sees at inference: passage and itself."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = Sizes(32, 2, 2, 64, coder.tokenizer.get_vocab_size(), 10000.0, 1e-5)
    weights = init_weights(sizes, torch.Generator().manual_seed(0))
    config = LlamaConfig(
        vocab_size=sizes.vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        rms_norm_eps=sizes.eps,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    named = {k: v.float() for k, v in to_transformers(weights, sizes).items()}
    model.load_state_dict(
        {**named, "lm_head.weight": named["model.embed_tokens.weight"]}
    )
    weights = {k: v.to(torch.bfloat16).float() for k, v in weights.items()}
    network = Network(sizes, compiled=False)
    for (width, _), row in pack(coder)[:6]:
        batch = as_tensors(
            make_batch([row], width, language_model_rows=0), SHAPE.window
        )
        with torch.no_grad():
            found = network.hidden(weights, batch)[0]
            for owner in range(row.owner.max() + 1):
                branch = np.flatnonzero(row.owner == owner)
                ids = torch.tensor([[*row.prefix, *row.branches[branch]]])
                expected = model.model(ids).last_hidden_state[0]
                torch.testing.assert_close(
                    found[width + branch],
                    expected[len(row.prefix) :],
                    atol=1e-4,
                    rtol=1e-4,
                )


def test_network_loss_of_a_packed_row_is_the_sum_of_its_branches(coder):
    sizes = Sizes(32, 2, 2, 64, coder.tokenizer.get_vocab_size(), 10000.0, 1e-5)
    weights = init_weights(sizes, torch.Generator().manual_seed(1))
    network = Network(sizes, compiled=False)
    s = coder.syntax
    syntax = torch.tensor([s.empty, s.open, s.next, s.close])

    def loss(questions):
        row = to_conversation("x", text, questions)
        (width, _), packed = pack_conversation(row, coder, SHAPE, Counts())
        batch = as_tensors(
            make_batch([packed], width, language_model_rows=0), SHAPE.window
        )
        return network.losses(weights, batch, syntax)[0].sum().item()

    text = "Ada Byron of London met Charles Babbage."
    questions = [
        ("person", ["Ada Byron", "Charles Babbage"]),
        ("city", ["London"]),
        ("song", []),
    ]
    assert loss(questions) == pytest.approx(sum(loss([q]) for q in questions), abs=1e-3)


@pytest.mark.parametrize(
    "tokens,expected",
    [
        (["Ada", "(", "a", "b", ")", ",", "left", "."], "Ada (a b), left."),
        (["He", "said", '"', "no", '"', "."], 'He said "no".'),
        (["Ada", "'s", "do", "n't"], "Ada's don't"),
    ],
)
def test_sets_join_tokens_as_prose(tokens, expected):
    text, starts, ends = join_tokens(tokens, prose=True)
    assert text == expected
    assert [text[s:e] for s, e in zip(starts, ends)] == tokens


@pytest.mark.slow
def test_finetune_runs_resumes_and_loads(tmp_path):
    """A student of nothing, trained for seconds, killed, resumed, and asked."""
    lines = [json.dumps(c) for c in conversations()]
    (tmp_path / "train.jsonl").write_text("\n".join(lines * 20))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines))
    command = [
        sys.executable,
        "-m",
        "training.finetune",
        "--config",
        "training/configs/mini.cfg",
    ]
    command += [
        "--conversations",
        str(tmp_path / "train.jsonl"),
        "--dev",
        str(tmp_path / "dev.jsonl"),
    ]
    command += ["--tokenizer", str(SHIPPED), "--out", str(tmp_path / "run"), "--set"]
    command += ["model.hidden=32", "model.heads=2", "model.layers=1", "model.inner=32"]
    command += [
        "finetune.compiled=false",
        "finetune.save_minutes=0",
        "finetune.tokens_per_batch=2000",
    ]
    subprocess.run([*command, "finetune.minutes=0.05"], check=True, cwd=ROOT)
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    subprocess.run([*command, "finetune.minutes=0.15"], check=True, cwd=ROOT)
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] > first["step"] and last["start"] < first["start"]
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()
