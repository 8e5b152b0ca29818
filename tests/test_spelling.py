"""The byte-wise guide: legal answers, for tokenizers of both LLaMA families."""

import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from spacy_uniner.answers import read_answer
from spacy_uniner.students.coding import Coder
from spacy_uniner.students.local import LocalStudent, make_local_student
from spacy_uniner.students.reference import ReferenceStudent
from spacy_uniner.students.spelling import Spelling

ROWS = (Path(__file__).parent / "data" / "passages.jsonl").read_text(encoding="utf8")
PASSAGES = [json.loads(line) for line in ROWS.splitlines()]
LLAMA2 = Path(os.environ.get("LLAMA2_TOKENIZER", "../shared/tokenizer/llama2"))
ODD = [
    "x",
    '"\\"\\\\""',
    "\U0001f469\u200d\U0001f467\U0001f600",
    "the " * 300,
    "</s> USER: <s> [INST]",
    "日本 é e\u0301 \u200f שלום\x00\t\n",
    "",
    "   ",
]


def byte_level() -> Tokenizer:
    """As LLaMA 3: byte-level pieces that may merge a quote with what is before."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As LLaMA 2: characters, blanks as marks, unknown ones by bytes."""
    bytes_ = [AddedToken(f"<0x{i:02X}>", special=False) for i in range(256)]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False)
    trained.train_from_iterator(training_texts(), trainer)
    model = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(token.content for token in bytes_)]
    names += [token for token in model["vocab"] if token not in names]
    merges = [tuple(merge) for merge in model["merges"]]
    vocab = {token: i for i, token in enumerate(names)}
    made = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def training_texts():
    for row in PASSAGES:
        yield row["text"]
        for mentions in row["queries"].values():
            yield " " + json.dumps(mentions, ensure_ascii=False)


def llama_2() -> Tokenizer:
    if not LLAMA2.exists():
        pytest.skip("no LLaMA 2 tokenizer at hand")
    from transformers import LlamaTokenizer

    return LlamaTokenizer.from_pretrained(LLAMA2, legacy=True).backend_tokenizer


@pytest.fixture(scope="module", params=[byte_level, sentencepiece, llama_2])
def tokenizer(request):
    return request.param()


@pytest.fixture(scope="module")
def student(tokenizer, tmp_path_factory) -> LocalStudent:
    """A random LLaMA over the vocabulary, that also knows how to stop."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("random")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        initializer_range=0.3,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
        template="uniner",
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return make_local_student(
        model=str(folder), dtype="float32", max_new_tokens=24, max_passage_tokens=600
    )


def quietly(student, questions):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return student(questions)


def walk(coder, passage, choose):
    guide = coder.guide(passage)
    state, ids = guide.start, []
    while not guide.is_closed(state):
        legal = guide.legal(state).tolist()
        assert legal and len(set(legal)) == len(legal)
        closing = [t for t in legal if guide.is_closed(guide.advance(state, t))]
        ends = closing or [t for t in legal if guide.ends_mention(state, t)]
        ids.append(choose(ends if len(ids) > 40 and ends else legal))
        state = guide.advance(state, ids[-1])
    return ids


SPELLERS = {
    make.__name__: Coder(make(), "uniner") for make in (byte_level, sentencepiece)
}


@pytest.mark.parametrize("name", SPELLERS)
@settings(max_examples=150, deadline=None)
@given(
    passage=st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
        st.text('ab"\\[], \n\t日é👍', max_size=40),
        st.sampled_from(ODD),
    ),
    random=st.randoms(use_true_random=False),
)
def test_spelling_any_legal_walk_is_a_list_of_verbatim_mentions(name, passage, random):
    coder = SPELLERS[name]
    ids = walk(coder, passage, random.choice)
    text = b"".join(coder.spelling.tokens[i] for i in ids).decode()
    assert all(mention and mention in passage for mention in json.loads(text))
    assert coder.answer(ids).strip() == text.strip()


@pytest.mark.parametrize("name", SPELLERS)
def test_spelling_canonical_answers_are_legal_and_mostly_drafted(name):
    """What a trained student writes: the tokenizer's own spelling of the list."""
    coder = SPELLERS[name]
    tokens = steps = 0
    for row in PASSAGES[:40]:
        guide = coder.guide(row["text"])
        for mentions in row["queries"].values():
            mentions = list(dict.fromkeys(m for m in mentions if m in row["text"]))
            ids = coder.text(" " + json.dumps(mentions, ensure_ascii=False))
            state, drafted, at = guide.start, guide.draft(guide.start), -1
            steps += 1
            for token in ids:
                assert token in guide.legal(state)
                state = guide.advance(state, token)
                tokens += 1
                below = [i for i, g in enumerate(drafted) if g == (at, token)]
                at = below[0] if below else -1
                if not below and not guide.is_closed(state):
                    drafted = guide.draft(state)
                    steps += 1
            assert guide.is_closed(state)
    assert steps < tokens / 2


def test_spelling_leaves_special_tokens_out(tokenizer):
    spelling = Spelling.of(tokenizer)
    special = set(tokenizer.get_added_tokens_decoder())
    assert not special & set(spelling.tokens)
    assert spelling.spell(b"Ada") and spelling.spell("日".encode())


def test_spelling_of_an_unknown_kind_is_none():
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.decoder = decoders.WordPiece()
    assert Spelling.of(tokenizer) is None


def test_spelling_random_student_never_leaves_the_passage(student):
    questions = [(row["text"][:200], list(row["queries"])[:3]) for row in PASSAGES[:6]]
    questions += [(passage, ["person", "quote"]) for passage in ODD]
    for (passage, types), row in zip(questions, quietly(student, questions)):
        assert len(row) == len(types)
        for answer in row:
            assert not answer.unreadable
            assert all(m.text in passage for m in answer.mentions)
            assert all(0 <= m.probability <= 1 for m in answer.mentions)
            assert 0 <= answer.p_empty <= 1
            if not answer.truncated:
                read = [i.text for i in read_answer(answer.text).items]
                assert read == [m.text for m in answer.mentions]


def test_spelling_tree_equals_one_token_at_a_time(student):
    """Half of the empties are turned down, so that there is something to write."""
    coder, guide_of = student.coder, student.coder.guide
    questions = [(row["text"][:80], list(row["queries"])[:2]) for row in PASSAGES[:4]]
    questions += [(passage, ["quote"]) for passage in ODD[:3]]
    for (passage, types), row in zip(questions, quietly(student, questions)):
        guide = guide_of(passage)
        for entity_type, answer in zip(types, row):
            prompt = coder.prefix(passage) + coder.question(entity_type)
            state, ids, certified = guide.start, [], True
            while not guide.is_closed(state) and len(ids) < student.max_new_tokens:
                with torch.inference_mode():
                    logits = student.model(torch.tensor([prompt + ids])).logits[0, -1]
                legal = guide.legal(state)
                ids.append(int(legal[int(logits[legal].argmax())]))
                certified &= ids[-1] == int(logits.argmax())
                state = guide.advance(state, ids[-1])
            assert answer.text == coder.answer(ids).strip()
            assert answer.certified == certified


@pytest.mark.parametrize("bound", [0.023])
def test_spelling_search_sums_over_all_lists(student, bound):
    """The same mention may be spelled in several ways: all of them count."""
    from test_search import check_against_slow

    questions = [(row["text"][:40], list(row["queries"])[:2]) for row in PASSAGES[:3]]
    questions += [(passage, ["quote"]) for passage in ODD[:3]]
    search = LocalStudent(
        student.checkpoint,
        dtype="float32",
        max_new_tokens=32,
        max_passage_tokens=600,
        mention_bound=bound,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_against_slow(search, questions, bound)


def test_spelling_without_constraint_equals_the_reference(student):
    free = make_local_student(
        model=student.checkpoint.name,
        dtype="float32",
        max_new_tokens=8,
        max_passage_tokens=600,
        constrained=False,
    )
    questions = [(row["text"][:80], list(row["queries"])[:2]) for row in PASSAGES[:3]]
    reference = ReferenceStudent(free)
    for (passage, types), row in zip(questions, quietly(free, questions)):
        for entity_type, answer in zip(types, row):
            slow = free.coder.answer(reference.generate(passage, entity_type))
            assert answer.text == slow.strip()
