"""A student behind a server that fails in every way there is: what is answered, what
is marked, what is told. And behind a real one."""

import json
import logging
import math
import multiprocessing
import pickle
import re
import socket
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
import spacy
from faults import (
    Completing,
    Server,
    always,
    drip,
    echo_key,
    half_open,
    refusing,
    reset_in_body,
    written,
)
from hypothesis import given
from hypothesis import strategies as st

from spacy_uniner.prompt import render_prompt
from spacy_uniner.students.server import make_server_student
from spacy_uniner.students.serving.folder import write_copy
from spacy_uniner.students.serving.grammars import copy_grammar, list_grammar
from spacy_uniner.students.serving.prompts import estimate_tokens, make_copy, render
from spacy_uniner.students.serving.replies import (
    Completion,
    Fault,
    Token,
    read_completion,
    refuse,
)
from spacy_uniner.students.serving.scores import locate, make_answer, p_empty
from spacy_uniner.types import Student

pytest.importorskip("httpx2", reason="needs the extra `server`")

ROOT = Path(__file__).parent.parent
SECRET = "sk-uniner-s3ntinel/0123456789"
PASSAGES = [f"p{i} Ada Lovelace met Bob in London." for i in range(6)]
QUESTIONS = [(text, ["person", "city", "drug"]) for text in PASSAGES]


def name_passage(body):
    """Answer with the first word of the passage; [] if asked for drugs."""
    prompt = body["prompt"]
    found = re.search(r"Text: (\w+).*describes (\w+)", prompt, re.DOTALL)
    if not found or found[2] == "drug":
        return "[]"
    return json.dumps([found[1], found[2]] if found[2] == "city" else [found[1]])


def make(url, **settings):
    settings = {"timeout": 1.0, "retries": 1, "concurrency": 4, **settings}
    return make_server_student(url=url, model="student", **settings)


def texts(answers):
    return [[[m.text for m in a.mentions] for a in row] for row in answers]


EXPECTED = [[[f"p{i}"], [f"p{i}", "city"], []] for i in range(6)]


def ask(student, questions=QUESTIONS):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        return student(questions), [str(w.message) for w in told]


# ---- answers


def test_server_answers_in_order():
    with Server(Completing(name_passage)) as server:
        student = make(server.url)
        assert isinstance(student, Student)
        assert server.n_requests == 0  # nothing is sent before the first question
        answers, told = ask(student)
        assert texts(answers) == EXPECTED
        assert not told
        n = server.n_requests
        ask(student)
        assert server.n_requests == n + 18  # probed once


def test_server_asks_types_of_a_passage_together():
    mode = Completing(name_passage)
    with Server(mode) as server:
        ask(make(server.url, concurrency=1))
    asked = [body["prompt"] for body in mode.bodies if body["max_tokens"] == 256]
    assert asked == [render_prompt(text, t) for text, types in QUESTIONS for t in types]
    assert {body["temperature"] for body in mode.bodies} == {0.0}
    assert {tuple(body["stop"]) for body in mode.bodies[1:]} == {("</s>",)}


@pytest.mark.parametrize("concurrency", [2, 8])
def test_server_keeps_to_its_limit(concurrency):
    now, most, lock = [0], [0], threading.Lock()

    def answer(body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return "[]"

    with Server(Completing(answer)) as server:
        student = make(server.url, concurrency=concurrency)
        ask(student, QUESTIONS[:1])
        threads = [threading.Thread(target=student, args=(QUESTIONS,)) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most[0] == concurrency


def test_server_without_questions_sends_nothing():
    with Server(Completing(name_passage)) as server:
        assert make(server.url)([]) == []
        assert make(server.url)([("text", [])]) == [[]]
        assert server.n_requests == 0


def test_server_works_inside_a_running_loop():
    import asyncio

    async def in_notebook(student):
        return student(QUESTIONS)

    with Server(Completing(name_passage)) as server:
        assert texts(asyncio.run(in_notebook(make(server.url)))) == EXPECTED


def test_server_in_a_pipeline():
    with Server(Completing(name_passage)) as server:
        student = {"@misc": "spacy-uniner.ServerStudent.v1", "url": server.url}
        student.update(model="student", concurrency=2)
        nlp = spacy.blank("en")
        nlp.add_pipe(
            "uniner", config={"labels": ["person", "city"], "student": student}
        )
        docs = list(nlp.pipe(PASSAGES))
        assert [doc.ents[0].text for doc in docs] == [f"p{i}" for i in range(6)]
        # a mention that does not stand in the text is counted, and no entity
        assert nlp.get_pipe("uniner").ledger["not_in_text"] == 6


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_server_works_in_other_processes(method):
    with Server(Completing(name_passage)) as server:
        student = make(server.url)
        assert texts(student(QUESTIONS)) == EXPECTED  # in contact before the fork
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert texts(pool.apply(student, (QUESTIONS,))) == EXPECTED
        assert texts(student(QUESTIONS)) == EXPECTED


# ---- settings


@pytest.mark.parametrize(
    "settings,code",
    [
        ({"template": "alpaca"}, "U001"),
        ({"on_error": "skip"}, "U034"),
        ({"constraint": "json"}, "U034"),
        ({"concurrency": 0}, "U039"),
        ({"timeout": 0}, "U039"),
        ({"timeout": math.nan}, "U039"),
        ({"retries": -1}, "U039"),
        ({"max_passage_tokens": 0}, "U039"),
        ({"max_new_tokens": 0}, "U039"),
        ({"dataset": " "}, "U048"),
        ({"url": "localhost:8000"}, "U095"),
        ({"url": "ftp://host/v1"}, "U095"),
        ({"url": "http://"}, "U095"),
        ({"url": "http://host:99999/v1"}, "U095"),
        ({"url": f"http://me:{SECRET}@host/v1"}, "U095"),
        ({"url": f"http://host/v1?key={SECRET}"}, "U095"),
        ({"url": f"http://host/v1#{SECRET}"}, "U095"),
    ],
)
def test_server_refuses_settings(settings, code):
    with pytest.raises(ValueError, match=code) as raised:
        make(**{"url": "http://localhost:1/v1", **settings})
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("value", [None, "", "two words", "line\nend", "käse"])
def test_server_refuses_keys(value, monkeypatch):
    monkeypatch.delenv("UNINER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("UNINER_KEY", value)
    student = make("http://127.0.0.1:1/v1", key_env="UNINER_KEY", on_error="mark")
    with pytest.raises(ValueError, match="U096") as raised:
        student(QUESTIONS)
    assert not value or value not in str(raised.value)


def test_server_refuses_questions_before_they_are_sent():
    with Server(Completing(name_passage)) as server:
        with pytest.raises(ValueError, match="U002"):
            make(server.url)([("text", ["person", "two\nlines"])])
        with pytest.raises(ValueError, match="U003"):
            make(server.url)([("text \ud83d", ["person"])])
        assert server.n_requests == 0


def test_server_identity_tells_what_answers_depend_on():
    one = make("http://Host:1/v1/")
    same = make("http://host:1/v1", key_env="KEY", timeout=9, concurrency=1, retries=0)
    assert one.identity == same.identity
    others = [{"template": "mini"}, {"dataset": "d"}, {"max_new_tokens": 9}]
    others += [{"constraint": "none"}, {"url": "http://host:2/v1"}]
    found = {make(**{"url": "http://host:1/v1", **other}).identity for other in others}
    assert len(found | {one.identity}) == 6


# ---- what a server can do


def test_server_takes_it_as_it_is():
    refused = ("logprobs", "grammar", "structured_outputs", "guided_grammar")
    unknown = (*refused, "skip_special_tokens")
    with Server(Completing(name_passage, unknown=unknown)) as server:
        student = make(server.url)
        assert texts(student(QUESTIONS)) == EXPECTED
        assert not student.abilities.settings and not student.abilities.constraint
        answer = student(QUESTIONS)[0][0]
        assert answer.mentions[0].probability == 1.0
        assert answer.p_empty == 0.0 and answer.certified


def spell(body, *, as_chat=False):
    """Tokens of one letter, each with probability 0.9 and one other way."""
    chars = list(name_passage(body))
    lp, rest = math.log(0.9), math.log(0.05)
    if as_chat:
        top = [{"token": "[]", "logprob": rest}]
        rows = [{"token": c, "logprob": lp, "top_logprobs": top} for c in chars]
        return {"content": rows}
    tops = [{c: lp, "[]": rest} for c in chars]
    return {
        "tokens": chars,
        "token_logprobs": [lp] * len(chars),
        "top_logprobs": tops,
    }


@pytest.mark.parametrize("as_chat", [False, True])
def test_server_reads_probabilities(as_chat):
    mode = Completing(name_passage, logprobs=lambda body: spell(body, as_chat=as_chat))
    with Server(mode) as server:
        student = make(server.url)
        (person, _, drug), *_ = student(QUESTIONS)
        assert student.abilities.has_logprobs
    assert person.mentions[0].probability == pytest.approx(0.9**4)  # "p0"
    assert person.p_empty == pytest.approx(0.05)
    assert drug.p_empty == pytest.approx(0.05 + 0.9 * 0.9)  # `[]`, and `[` then `]`


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        [],
        "x",
        {"tokens": None, "token_logprobs": None},
        {"tokens": ["["], "token_logprobs": []},
        {"tokens": [1], "token_logprobs": [0.0]},
        {"tokens": ["["], "token_logprobs": ["x"]},
        {"tokens": ["["], "token_logprobs": [None]},
        {"tokens": ["["], "token_logprobs": [math.nan]},
        {"tokens": ["["], "token_logprobs": [-1.0], "top_logprobs": [[1]]},
        {"content": None},
        {"content": [{}]},
        {"content": [{"token": "[", "logprob": 0.0, "top_logprobs": [None]}]},
    ],
)
def test_server_survives_any_logprobs(logprobs):
    body = json.loads(json.dumps(written('["Ada"]', logprobs=logprobs)))
    found = read_completion(body)
    assert found.tokens == () and found.text == '["Ada"]'


@pytest.mark.parametrize(
    "name", ["structured_outputs", "guided_grammar", "grammar", ""]
)
@pytest.mark.parametrize("constraint", ["list", "copy", "none"])
def test_server_constrains_where_it_can(name, constraint):
    mode = Completing(name_passage, takes=name)
    with Server(mode) as server:
        student = make(server.url, constraint=constraint)
        answers, told = ask(student)
    assert texts(answers) == EXPECTED
    held = bool(name) and constraint != "none"
    assert student.abilities.constraint == (name if held else "")
    assert bool(told) == (constraint == "copy" and not name)
    sent = [body.get(name) for body in mode.bodies if body["max_tokens"] == 256]
    assert all(map(bool, sent)) if held else not any(sent)
    if held:
        grammar = sent[0]["grammar"] if name == "structured_outputs" else sent[0]
        assert ("Lovelace" in grammar) == (constraint == "copy")


def test_server_does_without_the_grammar_of_one_passage():
    bad = Completing(
        name_passage,
        bad=refusing(400, "grammar is too complex"),
        when=lambda body: "p2 " in body["prompt"] and "grammar" in body,
        takes="grammar",
    )
    with Server(bad) as server:
        assert texts(make(server.url, constraint="copy")(QUESTIONS)) == EXPECTED


def test_server_does_without_grammars_that_change_lists():
    def answer(body):
        return "[]" if "grammar" in body else name_passage(body)

    with Server(Completing(answer, takes="grammar")) as server:
        student = make(server.url)
        assert texts(student(QUESTIONS)) == EXPECTED
        assert student.abilities.constraint == ""


@pytest.mark.parametrize("template,marker", [("uniner", False), ("mini", True)])
@pytest.mark.parametrize("n_first", [0, 1, 2, 4])
def test_server_sends_the_first_marker_if_nobody_adds_it(template, marker, n_first):
    mode = Completing(lambda body: "[]", n_first=n_first, takes="grammar")
    with Server(mode) as server:
        make(server.url, template=template)(QUESTIONS)
    expected = {0: marker, 1: True}.get(n_first, False)
    assert mode.bodies[-1]["prompt"].startswith("<s>") == expected


def test_server_tells_when_it_is_too_short():
    listed = [{"id": "student", "max_model_len": 512}]
    with Server(Completing(name_passage, models=listed)) as server:
        with pytest.raises(ValueError, match="U100.*512"):
            make(server.url, on_error="mark")(QUESTIONS)
        assert texts(make(server.url, max_new_tokens=64)(QUESTIONS)) == EXPECTED


@pytest.mark.parametrize(
    "models",
    [
        {},
        [],
        [None, 3, {}],
        [{"id": None}],
        [{"id": "student", "max_model_len": "long", "meta": 3}],
    ],
)
def test_server_survives_any_list_of_models(models):
    with Server(Completing(name_passage, models=models)) as server:
        assert texts(make(server.url)(QUESTIONS)) == EXPECTED


def test_server_tells_of_another_model():
    def answer(body):
        return name_passage(body)

    with Server(Completing(answer, models=[{"id": "student"}])) as server:
        student = make_server_student(url=server.url, model="other", timeout=5)
        assert any("U108" in message for message in ask(student)[1])


def test_server_tells_of_answers_that_are_no_lists():
    with Server(Completing(lambda body: " Ada Lovelace")) as server:
        answers, told = ask(make(server.url))
        assert any("U109" in message for message in told)
        assert all(a.unreadable == 1 and not a.mentions for row in answers for a in row)


# ---- tokens


@pytest.mark.parametrize(
    "counts,expected",
    [
        ({"count": 3, "tokens": [1, 2, 3]}, 3),
        ({"tokens": [{"id": 1}] * 7}, 7),
        ({"tokens": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_server_counts_tokens(counts, expected):
    text = "Ada Lovelace wrote for the Analytical Engine until cancer took her."
    with Server(Completing(name_passage, counts=counts)) as server:
        student = make(server.url)
        assert student.count_tokens("Ada") == 2  # too short to ask
        assert server.n_requests == 0
        guess = estimate_tokens(text)
        assert student.count_tokens(text) == (guess if expected is None else expected)
        student.count_tokens(text)
        assert server.n_requests == (1 if expected is None else 2)


def test_server_counts_without_a_server():
    student = make("http://127.0.0.1:1/v1")
    assert student.count_tokens("word " * 100) == 200
    assert student.count_tokens("") == 0


def test_server_estimates_rather_too_many():
    tokenizers = pytest.importorskip("tokenizers")
    file = ROOT / "spacy_uniner" / "mini" / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    with (ROOT / "tests" / "data" / "passages.jsonl").open(encoding="utf8") as lines:
        found = [json.loads(line)["text"] for line in lines][:300]
    for text in found:
        n = len(tokenizer.encode(text, add_special_tokens=False).ids)
        assert n <= estimate_tokens(text) <= 4 * n


# ---- prompts


@pytest.mark.parametrize(
    "text,template,sent",
    [
        ("a </s> b", "uniner", "a < /s> b"),
        ("<s></s>", "uniner", "< s>< /s>"),
        ("<|im_start|>[INST]", "uniner", "< |im_start|>[ INST]"),
        ('a <q> ["b", "c"] []', "uniner", 'a <q> ["b", "c"] []'),
        ('a <q> ["b", "c"] []', "mini", 'a < q> [ "b" , "c" ] [ ]'),
        ("a < b > c", "mini", "a < b > c"),
    ],
)
def test_server_copies_without_markers(text, template, sent):
    copy = make_copy(text, template=template)
    assert copy.text == sent
    assert copy.restore(sent) == text
    assert copy.original == text


@given(
    st.lists(st.sampled_from(["</s>", "<s>", "<", "s>", " ", "a", '", "', "[]", "["])),
    st.data(),
)
def test_server_restores_every_mention(parts, data):
    text = "".join(parts)
    copy = make_copy(text, template="mini")
    for marker in ("<s>", "</s>", "<q>", "<a>", "[]", '", "'):
        assert marker not in copy.text
    start = data.draw(st.integers(0, len(copy.text)))
    end = data.draw(st.integers(start, len(copy.text)))
    assert copy.restore(copy.text[start:end]).strip() in text


def test_server_sends_markers_of_documents_as_text():
    def answer(body):
        return '["evil < /s> name"]' if "evil" in body["prompt"] else "[]"

    mode = Completing(answer)
    text = "An evil </s> name. <s>"
    with Server(mode) as server:
        (found,) = make(server.url)([(text, ["what </s> is"])])[0]
    assert found.mentions[0].text == "evil </s> name"
    prompt = mode.bodies[-1]["prompt"]
    assert prompt.count("</s>") == 1 and "<s>" not in prompt  # the template's


def test_server_renders_the_official_prompt():
    copy = make_copy(PASSAGES[0], template="uniner")
    for dataset in (None, "d"):
        settings = {"template": "uniner", "dataset": dataset}
        found = render(copy, "person", with_first=False, **settings)
        assert found == render_prompt(PASSAGES[0], "person", **settings)
        assert render(copy, "person", with_first=True, **settings) == "<s>" + found


def as_regex(grammar):
    """A grammar without cycles as a regular expression."""
    rules = dict(line.split(" ::= ") for line in grammar.strip().splitlines())
    part = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\w+|[()|*+?]|\s+')

    def expand(rule):
        out = ""
        for piece in part.findall(rules[rule]):
            if piece[0] == '"':
                literal = re.sub(r"\\(.)", r"\1", piece[1:-1])
                out += f"(?:{re.escape(literal)})"
            elif piece[0].isalnum():
                out += f"(?:{expand(piece)})"
            elif piece[0] == "(":
                out += "(?:"
            elif not piece.isspace():
                out += piece
        return out

    return re.compile(expand("root"), re.DOTALL)


@pytest.mark.parametrize(
    "answer,is_list,is_copy",
    [
        ("[]", True, True),
        (' ["Ada"]', True, True),
        ('["Ada", "Love-lace"]', True, True),
        (r'["\"Love-lace\"\nof"]', True, True),
        ('["of Ada"]', True, True),
        ('["Bob"]', True, False),
        ('["Ada", "Bob"]', True, False),
        ('["Ad"]', True, False),
        (r'["of\n"]', True, False),
        ('["Ada"', False, False),
        ('["Ada" "of"]', False, False),
        ('["Ada\nof"]', False, False),
        ("Ada", False, False),
    ],
)
def test_server_grammars(answer, is_list, is_copy):
    copies = as_regex(copy_grammar('Ada "Love-lace"\nof of Ada '))
    assert bool(as_regex(list_grammar()).fullmatch(answer)) == is_list
    assert bool(copies.fullmatch(answer)) == is_copy


def test_server_grammar_of_a_blank_passage():
    assert as_regex(copy_grammar(" \n")).fullmatch("[]")


# ---- reading


def tokens_of(*parts):
    return tuple(Token(text, p, {text: p}) for text, p in parts)


@pytest.mark.parametrize(
    "text,parts,expected",
    [
        ('["a"]', ['["', "a", '"]'], [(0, 2), (2, 3), (3, 5)]),
        ('["a"]', ['["', "a", '"]', "</s>"], [(0, 2), (2, 3), (3, 5), (5, 5)]),
        ('["é"]', ['["', "\ufffd", "\ufffd", '"]'], [(0, 2), (2, 3), (2, 3), (3, 5)]),
        ('["a b"]', ['["', "a", "b", '"]'], [(0, 2), (2, 3), (4, 5), (5, 7)]),
        ("[]", [" []"], [(0, 2)]),
    ],
)
def test_server_locates_tokens(text, parts, expected):
    assert locate(text, tokens_of(*[(part, 0.5) for part in parts])) == expected


@pytest.mark.parametrize(
    "steps,expected",
    [
        ([("[]", {"[]": 0.7, '["': 0.3})], 0.7),
        ([('["', {"[]": 0.2, " []": 0.1, '["': 0.7})], 0.3),
        ([("[", {"[": 0.8, "[]": 0.1}), ('"', {'"': 0.75, "]": 0.25})], 0.3),
        ([("x", {"x": 1.0})], 0.0),
        ([], 0.0),
    ],
)
def test_server_adds_up_empty_lists(steps, expected):
    assert p_empty([Token(t, o[t], o) for t, o in steps]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text,mentions,unreadable,truncated",
    [
        ('["Ada"]', ["Ada"], 0, 0),
        ('["Ada"]</s> ["Bob"]', ["Ada"], 0, 0),
        ('["Ada", "Bo', ["Ada"], 0, 1),
        ('["Ada", 3]', ["Ada"], 1, 0),
        ("", [], 1, 0),
        ("no list", [], 1, 0),
    ],
)
def test_server_reads_answers(text, mentions, unreadable, truncated):
    passage = make_copy("Ada and Bob", template="uniner")
    found = make_answer(Completion(text), passage, end="</s>", is_free=True)
    assert [m.text for m in found.mentions] == mentions
    assert (found.unreadable, found.truncated) == (unreadable, truncated)


def test_server_certifies_what_no_grammar_changed():
    passage = make_copy("Ada", template="uniner")
    best, second = (
        Token("[]", 0.6, {"[]": 0.6}),
        Token("[]", 0.4, {"[]": 0.4, "x": 0.6}),
    )
    for tokens, is_free, expected in [
        ((), True, True),
        ((), False, False),
        ((best,), False, True),
        ((second,), False, False),
    ]:
        completion = Completion("[]", tokens)
        found = make_answer(completion, passage, end="</s>", is_free=is_free)
        assert found.certified == expected


# ---- faults


def send_bytes(content, **settings):
    return lambda handler, *_: handler.send(content, **settings)


def slowly(seconds):
    def mode(handler, content, number):
        time.sleep(seconds)
        handler.send(written("[]"))

    return mode


def drip_headers(handler, content, number):
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: aaaa":
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.2)
    handler.close_connection = True


def cut_chunks(handler, content, number):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{")
    handler.close_connection = True


def no_http(handler, content, number):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    handler.close_connection = True


def endless(handler, content, number):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        handler.wfile.write(b" " * 65536)


def redirect(handler, content, number):
    where = handler.server.elsewhere + "/completions"
    handler.send({}, 307, Location=where)


CHOICES = [None, [], {}, "x", [None], [{}], [{"text": None}], [{"text": 3}], [[]]]
# what the server does -> code of the error
FAULTS = {
    "refused 400": (refusing(400, "bad"), "U098"),
    "key 401": (echo_key, "U097"),
    "forbidden 403": (refusing(403, "no"), "U097"),
    "to be paid 402": (refusing(402, "pay"), "U097"),
    "no address 404": (refusing(404, "Not Found"), "U097"),
    "no model 404": (refusing(404, "The model `student` does not exist."), "U097"),
    "no model 400": (refusing(400, "x", "model_not_found"), "U097"),
    "too long 400": (refusing(400, "maximum context length is 512 tokens"), "U099"),
    "too long 413": (refusing(413, ""), "U099"),
    "busy 429": (refusing(429, "slow down"), "U098"),
    "busy 429 soon": (refusing(429, "slow down", Retry_After="0.2"), "U098"),
    "busy 429 later": (refusing(429, "slow down", Retry_After="3600"), "U098"),
    "no quota 429": (refusing(429, "pay", "insufficient_quota"), "U097"),
    "server error 500": (refusing(500, "oh"), "U098"),
    "server error 503": (refusing(503, "loading"), "U098"),
    "late": (slowly(3), "U098"),
    "half open": (half_open, "U098"),
    "a byte at a time": (drip, "U098"),
    "headers, a byte at a time": (drip_headers, "U098"),
    "reset in the body": (reset_in_body, "U098"),
    "chunks cut": (cut_chunks, "U098"),
    "no http": (no_http, "U098"),
    "without end": (endless, "U098"),
    "redirect": (redirect, "U097"),
    "half a JSON": (send_bytes(b'{"choices": [{"te'), "U098"),
    "HTML": (send_bytes(b"<html>Welcome</html>", kind="text/html"), "U098"),
    "HTML as JSON": (send_bytes(b"<html>Welcome</html>"), "U098"),
    "not UTF-8": (send_bytes(b'{"choices": "\xff\xfe"}'), "U098"),
    "deep": (send_bytes(b"[" * 100_000), "U098"),
    "nothing": (send_bytes(b""), "U098"),
    "a list": (always([1, 2]), "U098"),
    "null": (send_bytes(b"null"), "U098"),
    "no fields": (always({"id": 1}), "U098"),
    "an error with 200": (always({"error": {"message": "oh"}}), "U098"),
    "an error text with 200": (always({"error": "oh"}), "U098"),
    **{f"choices {c!r}": (always({"choices": c}), "U098") for c in CHOICES},
}


@pytest.fixture
def keyed(monkeypatch, caplog):
    """A key in the environment; it must be in nothing that was logged."""
    monkeypatch.setenv("UNINER_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    yield {"key_env": "UNINER_KEY"}
    assert SECRET not in caplog.text


@pytest.fixture(scope="module")
def elsewhere():
    """A server that nothing may be sent to."""
    with Server(always()) as server:
        yield server


def is_marked(answer):
    return not answer.mentions and answer.unreadable + answer.truncated == 1


@pytest.mark.parametrize("name", FAULTS)
def test_server_faults_raise(name, keyed, elsewhere):
    mode, code = FAULTS[name]
    with Server(mode) as server:
        server.elsewhere = elsewhere.url
        student = make(server.url, timeout=0.6, retries=0, **keyed)
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=code) as raised:
            student(QUESTIONS)
        assert time.monotonic() - begin < 1.6
        assert SECRET not in "".join(traceback.format_exception(raised.value))
        assert elsewhere.n_requests == 0
        assert SECRET not in str(pickle.dumps(student))
        assert SECRET not in repr([vars(student), student.identity])


@pytest.mark.parametrize("name", FAULTS)
def test_server_faults_mark(name, keyed, elsewhere):
    """Only one passage fails: no answer to another is lost, and the order kept."""
    mode, code = FAULTS[name]
    bad = Completing(
        name_passage,
        bad=mode,
        when=lambda body: "p2" in body["prompt"],
        takes="grammar",
    )
    with Server(bad) as server:
        server.elsewhere = elsewhere.url
        student = make(server.url, on_error="mark", retries=0, **keyed)
        begin = time.monotonic()
        answers, told = ask(student)
        assert time.monotonic() - begin < 3
        assert elsewhere.n_requests == 0
    assert all(is_marked(answer) for answer in answers[2])
    assert [answer.truncated for answer in answers[2]] == [code == "U099"] * 3
    n_failed = 3
    for number in (0, 1, 3, 4, 5):
        for expected, answer in zip(EXPECTED[number], answers[number]):
            if code == "U097" and is_marked(answer):
                n_failed += 1  # nothing more was asked
            else:
                assert [m.text for m in answer.mentions] == expected
    assert [f"{n_failed} of 18" in message for message in told] == [True]
    assert SECRET not in str(told) + str(answers)


@pytest.mark.parametrize("name", ["key 401", "server error 500", "half open", "HTML"])
def test_server_marks_all_when_nothing_works(name, keyed):
    with Server(FAULTS[name][0]) as server:
        student = make(server.url, on_error="mark", **keyed)
        begin = time.monotonic()
        answers, told = ask(student)
        assert time.monotonic() - begin < 2.5
    assert [len(row) for row in answers] == [3] * 6
    assert all(is_marked(answer) for row in answers for answer in row)
    assert "U107" in told[0] and "18 of 18" in told[0]


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    "url",
    [f"http://127.0.0.1:{closed_port()}/v1", "http://no-such-host.invalid/v1"],
)
def test_server_that_is_not_there(url):
    with pytest.raises(RuntimeError, match="U098"):
        make(url)(QUESTIONS)
    answers, _ = ask(make(url, on_error="mark"))
    assert all(is_marked(answer) for row in answers for answer in row)


def test_server_at_a_wrong_address():
    with Server(Completing(name_passage)) as server:
        with pytest.raises(RuntimeError, match="U097.*/v1"):
            make(server.url.removesuffix("/v1"))(QUESTIONS)


def test_server_without_the_model_names_those_it_has():
    bad = Completing(
        name_passage,
        bad=refusing(404, "The model `student` does not exist."),
        models=[{"id": "UniNER-7B-type"}],
    )
    with Server(bad) as server:
        with pytest.raises(RuntimeError, match="U097.*UniNER-7B-type"):
            make(server.url)(QUESTIONS)


@pytest.mark.parametrize("name", ["server error 500", "reset in the body", "HTML"])
def test_server_asks_again_what_may_pass(name):
    failed = set()

    def at_first(body):
        return body["prompt"] not in failed and not failed.add(body["prompt"])

    bad = Completing(name_passage, bad=FAULTS[name][0], when=at_first)
    with Server(bad) as server:
        answers, told = ask(make(server.url, timeout=20, concurrency=18))
    assert texts(answers) == EXPECTED and not told


def test_server_is_left_alone_while_it_is_busy():
    begun = []

    def once(body):
        begun.append(time.monotonic())
        return "p0 " in body["prompt"] and len(begun) < 60 and not busy.is_set()

    busy = threading.Event()

    def refuse_once(handler, content, number):
        busy.set()
        handler.refuse(429, "slow down", Retry_After="0.7")

    mode = Completing(name_passage, bad=refuse_once, when=once)
    with Server(mode) as server:
        assert texts(make(server.url, timeout=9)(QUESTIONS)) == EXPECTED
    gaps = [b - a for a, b in zip(begun, begun[1:])]
    assert sum(gap > 0.5 for gap in gaps) == 1  # all waited, once


def test_server_comes_back():
    """What was marked while it was down is answered when it is up again."""
    down = [True]
    mode = Completing(name_passage, bad=refusing(500, ""), when=lambda body: down[0])
    with Server(mode) as server:
        student = make(server.url, on_error="mark")
        assert is_marked(ask(student)[0][0][0])
        down[0] = False
        assert texts(ask(student)[0]) == EXPECTED


def test_server_marks_are_in_the_ledger():
    bad = Completing(
        name_passage, bad=FAULTS["HTML"][0], when=lambda body: "p2" in body["prompt"]
    )
    with Server(bad) as server:
        nlp = spacy.blank("en")
        student = {"@misc": "spacy-uniner.ServerStudent.v1", "url": server.url}
        student.update(model="student", on_error="mark", retries=0)
        nlp.add_pipe("uniner", config={"labels": ["person"], "student": student})
        with pytest.warns(UserWarning, match="U107"):
            docs = list(nlp.pipe(PASSAGES))
        assert [doc.text for doc in docs] == PASSAGES
        assert [doc._.uniner["uniner"]["unreadable"] for doc in docs] == [
            0,
            0,
            1,
            0,
            0,
            0,
        ]


def test_server_key_goes_to_its_host_only(keyed, tmp_path):
    with Server(Completing(name_passage)) as server:
        nlp = spacy.blank("en")
        student = {"@misc": "spacy-uniner.ServerStudent.v1", "url": server.url}
        student.update(model="student", **keyed)
        nlp.add_pipe("uniner", config={"labels": ["person"], "student": student})
        nlp(PASSAGES[0])
        assert {h["Authorization"] for h in server.headers} == {f"Bearer {SECRET}"}
        nlp.to_disk(tmp_path)
        saved = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        assert SECRET.encode() not in saved + nlp.to_bytes() + pickle.dumps(nlp)


def test_server_gets_no_key_that_was_not_meant_for_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with Server(Completing(name_passage)) as server:
        make(server.url)(QUESTIONS)
        assert not any("Authorization" in headers for headers in server.headers)


def test_server_that_repeats_the_key_in_its_answers(keyed):
    with Server(Completing(lambda body: json.dumps([SECRET]))) as server:
        assert SECRET not in repr(make(server.url, **keyed)(QUESTIONS))


@pytest.mark.parametrize(
    "status,message,is_it",
    [
        (404, "The model `student` does not exist.", True),
        (400, "Server is pinned to 'a'; requested 'student'.", True),
        (404, "model 'student' not found, try pulling it first", True),
        (400, "This model does not support logprobs.", False),
        (404, "Not Found", False),
        (400, "Unknown model: student", True),
    ],
)
def test_server_tells_a_missing_model_from_all_else(status, message, is_it):
    content = json.dumps({"error": {"message": message}}).encode()
    with pytest.raises(Fault) as raised:
        refuse(status, {}, content)
    assert (raised.value.stops == "model") == is_it


@given(st.integers(100, 599), st.binary(max_size=200), st.text(max_size=20))
def test_server_refusals_are_always_faults(status, content, wait):
    with pytest.raises(Fault):
        refuse(status, {"retry-after": wait, "location": wait}, content, SECRET)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("choices text logprobs tokens usage model".split()), inner
        )
    ),
)


@given(st.dictionaries(st.sampled_from(["choices", "usage", "model"]), JSON))
def test_server_completions_are_read_or_faults(body):
    try:
        assert isinstance(read_completion(body).text, str)
    except Fault:
        pass


def test_server_copies_checkpoints_for_servers(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    folder = write_copy("mini", tmp_path / "copy")
    mini = ROOT / "spacy_uniner" / "mini"
    names = {file.name for file in mini.iterdir()}
    assert {file.name for file in folder.iterdir()} == names - {"manifest.json"}
    here, there = (
        tokenizers.Tokenizer.from_file(str(where / "tokenizer.json"))
        for where in (mini, folder)
    )
    text = '<s> Ada<q> person<a>["Ada", "Bob"]</s>'
    ids = here.encode(text).ids
    assert there.encode(text).ids == ids
    shown = there.decode(ids, skip_special_tokens=True)
    assert "<a>" in shown and '["' in shown
    assert f"<s>{shown}</s>" == here.decode(ids, skip_special_tokens=False)
    with pytest.raises(FileExistsError):
        write_copy("mini", folder)


# ---- a real server


@pytest.fixture
def served(tmp_path):
    """URL of `transformers serve` with the shipped student, and the name of that."""
    for module in ("fastapi", "uvicorn"):
        pytest.importorskip(module, reason="needs transformers[serving]")
    from benchmarks.serving import served as serve

    folder = write_copy("mini", tmp_path / "mini")
    with serve(folder, ["--dtype", "float32"]) as url:
        yield url, str(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*U10[39]")
def test_real_server_says_what_the_student_says_here(served):
    from spacy_uniner.students.local import make_local_student

    url, model = served
    with (ROOT / "tests" / "data" / "passages.jsonl").open(encoding="utf8") as lines:
        passages = [json.loads(line)["text"][:300] for line, _ in zip(lines, range(5))]
    questions = [(t, ["person", "city", "drug", "machine"]) for t in passages]
    here = make_local_student(
        constrained=False, dtype="float32", device="cpu", max_new_tokens=64
    )
    there = make_server_student(
        url=url, model=model, template="mini", max_new_tokens=64, concurrency=2
    )
    found, expected = there(questions), here(questions)
    assert [[a.text for a in row] for row in found] == [
        [a.text for a in row] for row in expected
    ]
    assert texts(found) == texts(expected)
    assert there.abilities.with_first and not there.abilities.has_logprobs
