"""Fine-tuning: examples, rows, students, and runs that survive."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from test_spelling import byte_level, sentencepiece

from spacy_uniner.students.checkpoint import SHIPPED, find_checkpoint, load_tokenizer
from spacy_uniner.students.coding import Coder
from spacy_uniner.students.local import LocalStudent
from training import finetune
from training.files import InputError
from training.settings import read_settings
from training.tuning import examples as examples_module
from training.tuning import fused, pretrained, rows, windows
from training.tuning.data import Conversations
from training.tuning.examples import Encoder
from training.tuning.optimizers import rate_factor
from training.tuning.recipe import Recipe
from training.tuning.stream import stream
from training.turns import from_conversation, to_conversation

ROOT = Path(__file__).parent.parent
SHAPE = windows.Shape(passage=(32, 64, 128), window=24, max_windows=3)
TINY = """
[model]
hidden = 32
heads = 2
layers = 2
inner = 48

[windows]
passage = [32, 64, 128]
window = 24
max_windows = 3
tokens_per_batch = 900

[finetune]
template = "mini"
steps = 12
optimizer = "muon"
matrix_rate = 0.02
rate = 0.002
schedule = "linear"
clip = 0
legal_weight = 1.0
answer_weight = 0.1
passage_weight = 0.1
language_share = 0.3
precision = "fp32"
"""
IN_ROWS = """
[model]
hidden = 32
heads = 2
layers = 2
inner = 48

[rows]
length = 400
layout = "branches"
rows_per_batch = 2
conversations_per_step = 6

[finetune]
template = "mini"
steps = 4
rate = 0.01
legal_weight = 1.0
answer_weight = 0.3
passage_weight = 0.1
language_share = 0.5
precision = "fp32"
"""


@pytest.fixture(scope="module")
def coder():
    return Coder(load_tokenizer(find_checkpoint("mini")), "mini")


def conversations():
    """Real passages with their questions, as conversations."""
    lines = (ROOT / "tests" / "data" / "passages.jsonl").read_text(encoding="utf8")
    for i, line in enumerate(lines.splitlines()):
        row = json.loads(line)
        yield to_conversation(str(i), row["text"], list(row["queries"].items()))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Conversations to train on, and as held-out ones."""
    folder = tmp_path_factory.mktemp("conversations")
    lines = [json.dumps(c) + "\n" for c in conversations()]
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf8")
    (folder / "dev.jsonl").write_text("".join(lines[:8]), encoding="utf8")
    return folder


def examples(coder, counts=None, **settings):
    encode = Encoder(coder, counts or Counter(), choices=True, **settings)
    return [e for e in map(encode, conversations()) if e]


def random_llama(coder, seed=0, **config):
    """A LLaMA of chance over the tokenizer, in fp32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=coder.tokenizer.get_vocab_size(),
            num_attention_heads=2,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            initializer_range=0.2,
            **sizes,
            **config,
        )
    )
    return model.float()


def in_windows(coder, model):
    """The same model, for windows."""
    sizes = fused.Sizes(32, 2, 2, 64, coder.tokenizer.get_vocab_size(), 10000.0, 1e-5)
    s = coder.syntax
    return fused.FusedLlama(
        fused.from_transformers(model.state_dict(), sizes),
        sizes,
        syntax=[s.empty, s.open, s.next, s.close],
        compiled=False,
        dtype=torch.float32,
    )


# ---- examples


def test_examples_hold_what_is_legal_and_what_is_right(coder):
    for example in examples(coder):
        for branch in example.branches:
            assert len(branch.answer) == len(branch.choices)
            for token, choice in zip(branch.answer, branch.choices):
                assert choice.legal is None or token in choice.legal


@pytest.mark.parametrize(
    "answer,reason",
    [
        (["orks"], "not at token borders"),
        (["Lancashire"], "not in the passage"),
        ([["Yorkshire", "county"]], "not in the passage"),
        ([""], "not in the passage"),
    ],
)
def test_examples_count_what_can_not_be_learned(coder, answer, reason):
    counts = Counter()
    row = to_conversation("1", "Yorkshire", [("place", answer)])
    assert Encoder(coder, counts, choices=True)(row) is None
    assert counts[f"questions left out: {reason}"] == 1


def test_examples_of_passages_have_no_questions(coder):
    example = Encoder(coder, Counter(), choices=True)({"text": "Ada left."})
    assert not example.branches and example.prefix == coder.prefix("Ada left.")


def test_examples_of_the_official_template_spell_answers_as_decoding_does(coder):
    """The assistant's own turn is found, and the answer is what inference would read."""
    official = Coder(load_tokenizer(find_checkpoint("mini")), "uniner-paragraph")
    encode = Encoder(official, Counter(), choices=False, all_turns=True)
    example = encode(to_conversation("1", "Ada left.", [("person", ["Ada"])]))
    heard = example.prefix[-example.heard : -1]
    assert official.tokenizer.decode(heard).strip() == "I've read this text."
    assert example.prefix[-1] == official.end == example.branches[0].answer[-1]
    assert official.answer(example.branches[0].answer).strip() == '["Ada"]'
    with pytest.raises(InputError, match="says nothing before"):
        Encoder(coder, Counter(), choices=False, all_turns=True)


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_examples_of_other_vocabularies_are_guided_byte_by_byte(make):
    """The loss over legal tokens works for any LLaMA, as decoding does."""
    encode = Encoder(Coder(make(), "uniner"), Counter(), choices=True)
    found = [example for example in map(encode, conversations()) if example]
    branches = [branch for example in found for branch in example.branches]
    assert len(branches) > 0.9 * sum(
        len(from_conversation(c)[1]) for c in conversations()
    )
    for branch in branches:
        assert encode.coder.answer(branch.answer).strip().startswith("[")
        assert branch.choices[0].kind == examples_module.START


def test_examples_name_the_dataset_as_inference_does(coder):
    row = to_conversation("1", "Ada left.", [("person", ["Ada"])], dataset="wnut17")
    example = Encoder(coder, Counter(), choices=True)(row)
    student = LocalStudent(find_checkpoint("mini"), dataset="wnut17")
    assert example.prefix == student.coder.prefix("Ada left.", student.dataset)
    assert example.prefix != coder.prefix("Ada left.")


# ---- windows


def test_windows_keep_every_branch_apart_and_every_choice_legal(coder):
    for example in examples(coder):
        for bucket, row in windows.pack(example, SHAPE, Counter()):
            batch = windows.make_batch([row], bucket.passage, language_rows=0)
            assert batch.n_tokens == bucket.size
            chosen = np.flatnonzero(batch.chosen[0] >= 0)
            # what is right is among what is legal, and there is something to choose from
            assert batch.legal[0, chosen, batch.chosen[0, chosen]].all()
            for owner in range(batch.owner.max() + 1):
                places = batch.place[batch.owner == owner]
                assert places.tolist() == list(range(len(places)))


def test_windows_split_a_passage_by_questions_and_cut_no_answer(coder):
    text = " ".join(f"Ada{i} met Bob{i}." for i in range(10))
    long = [f"Ada{i}" for i in range(7)]
    questions = [(f"kind {i}", ["Ada1"]) for i in range(12)] + [("person", long)]
    row = to_conversation("1", text, [*questions, ("all", [*long, *long[:0], text])])
    counts = Counter()
    example = Encoder(coder, counts, choices=True)(row)
    packed = windows.pack(example, SHAPE, counts)
    assert counts["rows"] == len(packed) > 2
    assert counts["rows of a passage that was split"] == len(packed) - 1
    assert counts["questions left out: too long"] == 1  # longer than all windows
    ends = sum((row.targets == coder.end).sum() for _, row in packed)
    assert ends == 13  # every other answer is there up to its end
    assert {bucket.window for bucket, _ in packed} == {24, 72}


def test_windows_leave_out_passages_that_are_too_long(coder):
    counts = Counter()
    row = to_conversation("1", "word " * 500, [("person", [])])
    example = Encoder(coder, counts, choices=True)(row)
    assert windows.pack(example, SHAPE, counts) == []
    assert counts["passages left out: too long"] == 1


def test_windows_loss_is_that_of_transformers_branch_by_branch(coder):
    model = random_llama(coder)
    student = in_windows(coder, model)
    for example in examples(coder)[:6]:
        for bucket, row in windows.pack(example, SHAPE, Counter()):
            batch = fused.as_tensors(
                windows.make_batch([row], bucket.passage, language_rows=0),
                torch.device("cpu"),
            )
            with torch.no_grad():
                weights = fused.merged(dict(student.named_parameters()), 1.0)
                found = student.hidden(weights, batch)[0, bucket.passage :]
                for owner in range(row.owner.max() + 1):
                    branch = np.flatnonzero(row.owner.ravel() == owner)
                    ids = torch.tensor([[*row.prefix, *row.branches[branch]]])
                    expected = model.model(ids).last_hidden_state[0]
                    torch.testing.assert_close(
                        found[branch], expected[len(row.prefix) :], atol=1e-4, rtol=1e-4
                    )


# ---- rows


def rows_of(found, length=400, per_row=None):
    """Segments as one batch: packed, or so many a row."""
    if per_row:
        filled = [found[i : i + per_row] for i in range(0, len(found), per_row)]
    else:
        filled = rows.fill_rows(found, length)
    return pretrained.as_tensors(rows.make_batch(filled, length), torch.device("cpu"))


@pytest.mark.parametrize("layout", rows.LAYOUTS)
@pytest.mark.parametrize("choices", [True, False])
def test_rows_packed_cost_as_much_as_rows_apart(coder, layout, choices):
    encode = Encoder(coder, Counter(), choices=choices)
    options = {"length": 400, "layout": layout, "language": True, "counts": Counter()}
    found = [
        segment
        for row in list(conversations())[:8]
        for segment in rows.segments(encode(row), **options)
    ]
    student = pretrained.PretrainedLlama(random_llama(coder))
    with torch.no_grad():
        packed, apart = student(rows_of(found)), student(rows_of(found, per_row=1))
    assert len(rows.fill_rows(found, 400)) < len(found)
    torch.testing.assert_close(packed, apart, atol=1e-2, rtol=1e-4)
    assert (packed[:3] > 0).all() == choices and (packed[3:] > 0).all()


def test_rows_and_windows_are_the_same_loss(coder):
    """Two roads, one function: dense masks over packed rows, and windows."""
    model = random_llama(coder)
    some = [e for e in examples(coder) if len(e.prefix) < 120][:6]
    options = {"length": 400, "layout": "branches", "language": True}
    found = [s for e in some for s in rows.segments(e, **options, counts=Counter())]
    with torch.no_grad():
        in_rows = pretrained.PretrainedLlama(model)(rows_of(found))
        student, total = in_windows(coder, model), torch.zeros(5)
        for example in some:
            for n, (bucket, row) in enumerate(windows.pack(example, SHAPE, Counter())):
                batch = windows.make_batch([row], bucket.passage, language_rows=1)
                sums = student(fused.as_tensors(batch, torch.device("cpu")))
                # of a passage that was split, its own loss is taken in every row
                total += sums * torch.tensor([1, 1, 1, n == 0, 1])
    torch.testing.assert_close(in_rows, total, atol=1e-2, rtol=1e-4)


def test_rows_of_conversations_show_earlier_answers(coder):
    """The paper's layout is a plain causal row: question, answer, question, answer."""
    example = examples(coder)[0]
    options = {"length": 400, "language": False, "counts": Counter()}
    (segment, *_) = rows.segments(example, layout="conversation", **options)
    assert segment.position.tolist() == list(range(len(segment.tokens)))
    model = random_llama(coder)
    with torch.no_grad():
        batch = rows_of([segment])
        lost = pretrained.PretrainedLlama(model)(batch)[4]
        logits = model(torch.tensor(segment.tokens)[None]).logits[0]
        expected = torch.nn.functional.cross_entropy(
            logits[segment.answers.at],
            torch.tensor(segment.answers.token),
            reduction="sum",
        )
    torch.testing.assert_close(lost, expected, atol=1e-3, rtol=1e-4)


def test_rows_split_a_passage_by_questions_and_cut_no_answer(coder):
    questions = [(f"kind {i}", ["Ada"]) for i in range(30)]
    example = Encoder(coder, Counter(), choices=True)(
        to_conversation("1", "Ada left.", [*questions, ("x " * 90, [])])
    )
    counts = Counter()
    options = {"language": False, "layout": "branches", "counts": counts}
    found = rows.segments(example, length=80, **options)
    assert counts["questions left out: too long"] == 1
    assert counts["segments of a passage that was split"] == len(found) - 1 > 1
    assert sum(s.n_questions for s in found) == 30
    assert max(len(s.tokens) for s in found) <= 80
    assert sum((s.answers.token == coder.end).sum() for s in found) == 30
    assert rows.segments(example, length=3, **options) == []


def test_training_sees_what_the_answer_tree_sees(coder, tmp_path):
    """The loss of an answer is what the tree says of it: one mask, one automaton."""
    from training.tuning.students import write_checkpoint

    model = random_llama(coder)
    config = model.config
    config.template = "mini"
    config.bos_token_id, config.eos_token_id = 0, coder.end
    weights = {n: w for n, w in model.state_dict().items() if "lm_head" not in n}
    write_checkpoint(tmp_path / "x", config, weights, tokenizer=SHIPPED, told={})
    checkpoint = find_checkpoint(str(tmp_path / "x"))
    student = LocalStudent(checkpoint, dtype="float32")
    model.load_state_dict(student.model.state_dict())  # as rounded to bf16
    learner = pretrained.PretrainedLlama(model)
    encode = Encoder(coder, Counter(), choices=True)
    for row in list(conversations())[:5]:
        text, asked = from_conversation(row)
        kinds = [kind for kind, _ in asked][:4]
        for kind, answer in zip(kinds, student([(text, kinds)])[0]):
            told = to_conversation(
                "1", text, [(kind, [m.text for m in answer.mentions])]
            )
            example = encode(told)
            options = {"length": 600, "layout": "branches", "language": False}
            found = rows.segments(example, **options, counts=Counter())
            with torch.no_grad():
                start = learner(rows_of(found, 600))[0].item()
            p_empty = float(np.exp(-start))
            if answer.mentions:
                p_empty = 1 - p_empty
            assert p_empty == pytest.approx(answer.p_empty, abs=2e-3)


# ---- data


def test_data_is_read_in_order_then_shuffled(tmp_path):
    lines = [json.dumps({"text": str(i)}) for i in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:12]) + "\n\n", encoding="utf8")
    array = [to_conversation(str(i), str(i), []) for i in range(12, 20)]
    (tmp_path / "b.json").write_text(json.dumps(array), encoding="utf8")
    data = Conversations([tmp_path / "a.jsonl", tmp_path / "b.json"], seed=1)
    read = [data.at(n) for n in range(60)]
    texts = [r.get("text") or from_conversation(r)[0] for r in read]
    assert texts[:20] == [str(i) for i in range(20)]
    assert sorted(texts[20:40]) == sorted(texts[:20]) != texts[20:40] != texts[40:]
    again = Conversations([tmp_path / "a.jsonl", tmp_path / "b.json"], seed=1)
    assert [again.at(n) for n in (59, 3, 30)] == [read[n] for n in (59, 3, 30)]
    assert list(data.sums) == ["a.jsonl", "b.json"]


@pytest.mark.parametrize(
    "line,told",
    [
        ("{", "not JSON"),
        ("[]", "neither"),
        ('{"text": 3}', "neither"),
        ('{"conversations": [{"value": "Text: a"}]}', "pairs of turns"),
        (
            '{"conversations": [{"value": "Text: a"}, {"value": "ok"}, '
            '{"value": "What describes b in the text?"}, {"value": "none"}]}',
            "no JSON list",
        ),
    ],
)
def test_data_is_checked_before_work_starts(tmp_path, line, told):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' + line + "\n", encoding="utf8")
    with pytest.raises(InputError, match=f"a.jsonl, line 2: .*{told}"):
        Conversations([path], seed=0)


@pytest.mark.parametrize("config", [TINY, IN_ROWS])
def test_streams_go_on_from_any_place(coder, files, tmp_path, config):
    (tmp_path / "x.cfg").write_text(config)
    recipe = Recipe.of(read_settings(tmp_path / "x.cfg", []))
    data = Conversations([files / "train.jsonl"], seed=3)

    def steps(start=None):
        counts = Counter()
        packer = finetune.make_packer(recipe, counts)
        encode = Encoder(coder, counts, choices=True)
        for place, step in stream(data, encode, packer, place=start, end=150):
            yield place, [batch._asdict() for batch in step]

    whole = list(steps())
    assert whole[-1][0].next == 150 and not whole[-1][0].waiting
    for at in (0, 3, len(whole) // 2, len(whole) - 2):
        rest = list(steps(whole[at][0]))
        assert len(rest) == len(whole) - at - 1
        for (place, step), (expected_place, expected) in zip(rest, whole[at + 1 :]):
            assert place == expected_place
            np.testing.assert_equal(step, expected)


@pytest.mark.parametrize("config", [TINY, IN_ROWS])
def test_streams_of_nothing_end(run, files, config):
    """What can't be learned is told, not looked through for ever."""
    long = to_conversation("1", "word " * 900, [("person", [])])
    (files / "long.jsonl").write_text(json.dumps(long), encoding="utf8")
    with pytest.raises(
        InputError, match="can be learned: .*passages left out: too long"
    ):
        run(config, "barren", train="long.jsonl")


# ---- recipe


@pytest.mark.parametrize(
    "old,new,told",
    [
        ("steps = 12", "steps = 12\nepochs = 1", "Exactly one of"),
        ("steps = 12", "", "Exactly one of"),
        ("[windows]", "[rows]\n[windows]", "not both"),
        ("[finetune]", "[lora]\n[finetune]", "AdamW"),
        ('"linear"', '"stairs"', "schedule must be one of"),
        ("clip = 0", "clips = 0", "no setting 'clips'"),
        ("hidden = 32", "hidden = 32.5", "must be int"),
        ("[model]", "[models]", "nothing to start from"),
        ("legal_weight = 1.0\nanswer_weight = 0.1", "answer_weight = 0", "both 0"),
    ],
)
def test_recipe_says_what_is_wrong(tmp_path, old, new, told):
    assert old in TINY
    (tmp_path / "x.cfg").write_text(TINY.replace(old, new))
    with pytest.raises(InputError, match=told):
        Recipe.of(read_settings(tmp_path / "x.cfg", []))


@pytest.mark.parametrize("path", sorted(ROOT.glob("training/configs/*.cfg")))
def test_recipe_of_every_config_is_read(path):
    config = read_settings(path, [])
    if "finetune" in config:
        Recipe.of(config)


def test_recipe_rates_rise_and_fall():
    rates = [
        rate_factor(done / 100, warmup=0.1, decay=0.5, schedule="linear")
        for done in range(101)
    ]
    assert rates[0] == 0 and rates[5] == 0.5 and rates[10] == rates[50] == 1
    assert rates[75] == pytest.approx(0.5) and rates[100] == 0
    cosine = rate_factor(0.5, warmup=0.0, decay=1.0, schedule="cosine")
    assert cosine == pytest.approx(0.5)


# ---- runs


@pytest.fixture
def run(files, tmp_path, monkeypatch):
    """Run `training.finetune` in this process."""

    def go(config=TINY, out="run", train="train.jsonl", overrides=(), more=()):
        (tmp_path / "x.cfg").write_text(config)
        argv = ["finetune", "--config", str(tmp_path / "x.cfg")]
        argv += [
            "--conversations",
            str(files / train),
            "--dev",
            str(files / "dev.jsonl"),
        ]
        if "init" not in config:
            argv += ["--tokenizer", str(SHIPPED)]
        argv += ["--out", str(tmp_path / out), *more, "--set", *overrides]
        monkeypatch.setattr(sys, "argv", argv)
        AcceleratorState._reset_state(True)
        finetune.main()
        return losses(tmp_path / out)

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    yield go
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def losses(folder):
    """RETURNS (List[float]): The loss of each step; the log has each once."""
    found = [json.loads(line) for line in (folder / "log.jsonl").open()]
    steps = [row for row in found if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
    return [row["loss"] for row in steps]


@pytest.mark.parametrize("config", [TINY, IN_ROWS])
def test_runs_that_are_killed_go_on_as_if_nothing_had_been(
    run, tmp_path, monkeypatch, config
):
    every_step = ["finetune.save_minutes=0"]
    expected = run(config, "whole", overrides=every_step)

    class Killed(BaseException):
        pass

    learn = finetune.Run.step
    left = [random.Random(str(tmp_path)).randrange(1, len(expected))]

    def killed(self, batches):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return learn(self, batches)

    monkeypatch.setattr(finetune.Run, "step", killed)
    with pytest.raises(Killed):
        run(config, "killed", overrides=every_step)
    monkeypatch.setattr(finetune.Run, "step", learn)
    assert run(config, "killed", overrides=every_step) == pytest.approx(
        expected, abs=1e-4
    )
    best = [
        tmp_path / name / "best" / "model.safetensors" for name in ("whole", "killed")
    ]
    assert best[0].read_bytes() == best[1].read_bytes()


def test_runs_learn_and_their_student_answers(run, tmp_path):
    found = run(overrides=["finetune.steps=60", "finetune.save_minutes=0.02"])
    assert np.mean(found[-5:]) < 0.8 * np.mean(found[:5])
    folder = tmp_path / "run"
    assert len(list(folder.glob("state-*"))) == 1
    told = json.loads((folder / "best" / "training.json").read_text())
    assert told["finetune"]["template"] == "mini" and told["conversations"]
    student = LocalStudent(find_checkpoint(str(folder / "best")))
    assert student([("Ada left.", ["person"])])[0][0] is not None


@pytest.mark.parametrize("in_rows", [False, True])
def test_runs_with_adapters_leave_the_rest_alone(run, tmp_path, in_rows):
    """Adapters are merged when saved, and alone in states; embeddings stay."""
    from safetensors.torch import load_file

    config = (IN_ROWS if in_rows else TINY).replace('"muon"', '"adamw"')
    start, end = (
        config.index("[model]"),
        config.index("[rows]" if in_rows else "[windows]"),
    )
    config = config[:start] + "[lora]\nrank = 4\n\n" + config[end:]
    config = config.replace("[finetune]", '[finetune]\ninit = "mini"')
    run(config, overrides=["finetune.steps=2", "finetune.rate=0.01"])
    before = load_file(SHIPPED / "model.safetensors")
    after = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert set(before) == set(after)
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed == {n for n in before if n.endswith("_proj.weight")}
    (state,) = (tmp_path / "run").glob("state-*")
    assert all(
        "lora_" in n or "_to" in n or "_from" in n
        for n in load_file(state / "model.safetensors")
    )
    assert run(config, overrides=["finetune.steps=2", "finetune.rate=0.01"])


def test_adapters_are_merged_as_peft_does(coder):
    from peft import LoraConfig, inject_adapter_in_model

    model = random_llama(coder)
    model = inject_adapter_in_model(
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]), model
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    ids = torch.tensor([[5, 6, 7]])
    state = pretrained.PretrainedLlama(model).state_dict()
    plain = random_llama(coder, seed=9)
    plain.load_state_dict(pretrained.merged(state, 2.0))
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, model(ids).logits)


def test_runs_in_the_form_of_the_paper(run, tmp_path):
    """Conversations, all turns of the assistant, the whole vocabulary, epochs."""
    config = IN_ROWS.replace('"mini"', '"uniner"').replace("branches", "conversation")
    config = config.replace(
        "legal_weight = 1.0\nanswer_weight = 0.3", "all_turns = true"
    )
    config = config.replace("steps = 4", "epochs = 2").replace("step = 6", "step = 16")
    assert len(run(config)) == 8  # 120 conversations, 16 a step, the last one smaller
    found = find_checkpoint(str(tmp_path / "run" / "best"))
    assert found.template == "uniner"
    assert LocalStudent(found)([("Ada left.", ["person"])])


def test_runs_are_not_mixed_up(run, files, tmp_path):
    run(overrides=["finetune.steps=2"])
    with pytest.raises(InputError, match=r"finetune.rate: 0.002 there, 0.1 now"):
        run(overrides=["finetune.steps=2", "finetune.rate=0.1"])
    lines = (files / "train.jsonl").read_text().splitlines()
    (files / "other.jsonl").write_text("\n".join(lines[1:]))
    with pytest.raises(
        InputError, match="conversations.train.jsonl: .* there, None now"
    ):
        run(train="other.jsonl", overrides=["finetune.steps=2"])
    # what changes nothing may change
    run(overrides=["finetune.steps=2", "finetune.save_minutes=5"])


def test_runs_stop_at_a_loss_that_is_no_number_and_keep_the_last_state(
    run, tmp_path, monkeypatch
):
    forward = fused.FusedLlama.forward
    count = [0]

    def spoilt(self, batch):
        count[0] += self.training
        return forward(self, batch) * (float("nan") if count[0] == 4 else 1)

    monkeypatch.setattr(fused.FusedLlama, "forward", spoilt)
    with pytest.raises(InputError, match="U082.*nan at step 4.*state-3"):
        run(overrides=["finetune.save_minutes=0"])
    assert [p.name for p in (tmp_path / "run").glob("state-*")] == ["state-3"]
    assert len(losses(tmp_path / "run")) == 3


def test_runs_survive_a_full_disk(run, tmp_path, monkeypatch):
    from accelerate import Accelerator

    save = Accelerator.save_state
    count = [0]

    def full(self, folder):
        count[0] += 1
        if count[0] == 3:
            Path(folder).mkdir()
            (Path(folder) / "model.safetensors").write_bytes(b"torn")
            raise OSError(28, "No space left on device")
        return save(self, folder)

    monkeypatch.setattr(Accelerator, "save_state", full)
    settings = ["finetune.save_minutes=0", "finetune.steps=5"]
    with pytest.raises(OSError, match="No space left"):
        run(overrides=settings)
    assert finetune.RunFolder(tmp_path / "run").latest().name == "state-2"
    assert len(run(overrides=settings)) == 5
    assert [p.name for p in (tmp_path / "run").glob("state-*")] == ["state-5"]


def test_runs_that_are_over_stay_as_they_are(run, tmp_path):
    run(overrides=["finetune.steps=2"])
    folder = finetune.RunFolder(tmp_path / "run")
    before = folder.latest().stat().st_mtime_ns
    # killed between the two renames that put a better student in place
    os.replace(folder.best, tmp_path / "run" / "best.old")
    assert len(run(overrides=["finetune.steps=2"])) == 2
    assert folder.latest().stat().st_mtime_ns == before
    assert (folder.best / "model.safetensors").exists()


def test_runs_that_are_asked_to_stop_save_first(run, tmp_path, monkeypatch):
    learn = finetune.Run.step
    count = [0]

    def asked(self, batches):
        count[0] += 1
        if count[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(self, batches)

    monkeypatch.setattr(finetune.Run, "step", asked)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(losses(tmp_path / "run")) == 3
    assert (tmp_path / "run" / "state-3").is_dir()
    assert len(run()) == 12


def test_runs_refuse_a_tokenizer_of_another_vocabulary(run, tmp_path, coder):
    from training.tuning.students import write_checkpoint

    small = random_llama(coder)
    small.resize_token_embeddings(100)
    weights = {n: w for n, w in small.state_dict().items() if "lm_head" not in n}
    write_checkpoint(tmp_path / "b", small.config, weights, tokenizer=SHIPPED, told={})
    config = TINY.replace("[finetune]", f'[finetune]\ninit = "{tmp_path / "b"}"')
    with pytest.raises(InputError, match="16,384 pieces, and .* knows 100"):
        run(config)


def command(files, tmp_path, out, config=TINY, *overrides):
    (tmp_path / "x.cfg").write_text(config)
    return [
        *("-m", "training.finetune", "--config", str(tmp_path / "x.cfg")),
        *("--conversations", str(files / "train.jsonl")),
        *("--dev", str(files / "dev.jsonl"), "--tokenizer", str(SHIPPED)),
        *("--out", str(tmp_path / out), "--set", "finetune.threads=1", *overrides),
    ]


def test_two_processes_learn_what_one_does(files, tmp_path, run):
    expected = run(IN_ROWS, "one")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", "0"]
    subprocess.run(
        [*launch, *command(files, tmp_path, "two", IN_ROWS)], check=True, cwd=ROOT
    )
    assert losses(tmp_path / "two") == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_runs_survive_twenty_kills(files, tmp_path):
    """SIGKILL at random moments of random steps; the curve is that of one run."""
    steps = "finetune.steps=150"
    go = [sys.executable, *command(files, tmp_path, "whole", TINY, steps)]
    subprocess.run(go, check=True, cwd=ROOT)
    saving = (steps, "finetune.save_minutes=0.002")
    go = [sys.executable, *command(files, tmp_path, "killed", TINY, *saving)]
    rng, log, n_kills = random.Random(7), tmp_path / "killed" / "log.jsonl", 0
    for _ in range(20):
        process = subprocess.Popen(go, cwd=ROOT, stderr=subprocess.DEVNULL)
        before = log.read_text() if log.exists() else ""
        while process.poll() is None and (
            not log.exists() or log.read_text() == before
        ):
            time.sleep(0.02)
        time.sleep(rng.random() * 0.4)
        n_kills += process.poll() is None
        process.kill()
        process.wait()
    assert n_kills == 20
    subprocess.run(go, check=True, cwd=ROOT)
    expected = losses(tmp_path / "whole")
    assert losses(tmp_path / "killed") == pytest.approx(expected, abs=1e-4)


def test_fsdp2_shards_layer_by_layer_and_costs_the_same(coder, tmp_path):
    """As far as a processor allows: the file is read by accelerate, its policy finds the
    layers of our student, and a student sharded so gives the same losses."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
    from torch import distributed
    from torch.distributed.fsdp import FSDPModule, fully_shard

    path = ROOT / "training" / "configs" / "fsdp2.yaml"
    told = load_config_from_file(str(path)).fsdp_config
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=told["fsdp_version"],
        auto_wrap_policy=told["fsdp_auto_wrap_policy"].lower(),
        transformer_cls_names_to_wrap=[told["fsdp_transformer_layer_cls_to_wrap"]],
        reshard_after_forward=told["fsdp_reshard_after_forward"],
    )
    student = pretrained.PretrainedLlama(random_llama(coder))
    options = {"length": 400, "layout": "branches", "language": True}
    found = rows.segments(examples(coder)[0], **options, counts=Counter())
    batch = rows_of(found)
    expected = student(batch)
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        plugin.set_auto_wrap_policy(student)
        is_wrapped = fsdp2_prepare_auto_wrap_policy(plugin, student)
        mesh = distributed.init_device_mesh("cpu", (1,))
        for module in [m for m in student.modules() if is_wrapped(m)]:
            fully_shard(module, mesh=mesh)
        fully_shard(student, mesh=mesh)
        assert sum(isinstance(m, FSDPModule) for m in student.modules()) == 3
        sums = student(batch)
        sums.sum().backward()
        torch.testing.assert_close(sums, expected)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("layout", rows.LAYOUTS)
def test_flex_attention_sees_what_the_dense_mask_shows(coder, layout):
    from torch.nn.attention.flex_attention import create_mask

    options = {"length": 300, "layout": layout, "language": False, "counts": Counter()}
    found = [s for e in examples(coder)[:5] for s in rows.segments(e, **options)]
    batch = rows_of(found, 300)
    dense = pretrained.attention_mask(batch, "sdpa")
    block = pretrained.attention_mask(batch, "flex_attention")
    n, length = batch["tokens"].shape
    seen = create_mask(block.mask_mod, n, None, length, length, device="cpu")
    assert torch.equal(seen, dense)
    assert dense.diagonal(dim1=-2, dim2=-1).all()
