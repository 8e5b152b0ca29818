"""A teacher that fails in every way there is, on loopback: what is kept, what it costs,
what is told."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import (
    GOOD,
    BatchServer,
    Server,
    always,
    at_first,
    completion,
    counting,
    drip,
    echo_key,
    echo_key_in,
    half_open,
    refusing,
    reset_in_body,
    slow,
)

from training.files import InputError, Journal
from training.teaching.batch_files import FileLimits
from training.teaching.batches import Batches
from training.teaching.endpoint import Endpoint
from training.teaching.ledger import Ledger, read_questions
from training.teaching.pricing import Budget, OutOfBudget, Price, read_prices
from training.teaching.prompts import Asking, Prompt
from training.teaching.replies import Fault, StopRun, read_wait, redact
from training.teaching.run import Run
from training.teaching.service import Service, read_key

ROOT = Path(__file__).parent.parent
ASKING = Asking(Prompt("types"), "teacher", 64)
SECRET = "sk-uniner-s3ntinel/0123456789"
UNCOUNTED = {k: v for k, v in completion().items() if k != "usage"}
PAIRS = [["Ada Lovelace", "person"], ["London", "location"]]


def write_passages(path, n):
    rows = [{"id": f"p{i}", "text": f"p{i} Ada Lovelace, London."} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    return path


def read_answers(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ask_one(url, **settings):
    """Ask about one passage; what came of it, and how long it took."""

    async def ask():
        async with Endpoint(Service(url, **settings)) as endpoint:
            try:
                return await endpoint.ask(ASKING.body("Ada Lovelace"), Budget())
            except (Fault, StopRun) as error:
                return error

    begin = time.monotonic()
    return asyncio.run(ask()), time.monotonic() - begin


def ask_many(url, tmp_path, n=20, *, budget=None, asking=ASKING, **settings):
    """Ask about n passages, into a file; the run, and the rows."""
    passages, out = tmp_path / "passages.jsonl", tmp_path / "answers.jsonl"
    if not passages.exists():
        write_passages(passages, n)
    journal = Journal(out)
    ledger = Ledger(journal.rows(), asking, journal=journal)
    context = settings.pop("context", None)
    run = Run(ledger, budget or Budget())
    questions, _ = read_questions(passages, asking)
    if context:
        questions = ledger.set_long_aside(questions, context)

    async def ask():
        async with Endpoint(Service(url, **settings)) as endpoint:
            await run.ask_all(list(ledger.open(questions)), endpoint)

    try:
        asyncio.run(ask())
    except StopRun as error:
        run.stopped = error
    journal.close()
    return run, read_answers(out)


def command(tmp_path, url, *args):
    return [
        *(sys.executable, "-m", "training.teacher", "--model", "teacher"),
        *("--passages", str(tmp_path / "passages.jsonl"), "--endpoint", url),
        *("--out", str(tmp_path / "answers.jsonl"), *args),
    ]


def teach(tmp_path, url, *args, env=None, **settings):
    """Run the script."""
    return subprocess.run(
        command(tmp_path, url, *args),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        **settings,
    )


# ---- what is asked


@pytest.mark.parametrize(
    "prompt,user",
    [
        (
            Prompt("types"),
            "Given a passage, your task is to extract all entities and identify their "
            "entity types. The output should be in a list of tuples of the following "
            'format: [("entity 1", "type of entity 1"), ... ].\n\nPassage: A {types} B',
        ),
        (
            Prompt("definitions"),
            "Given a paragraph, your task is to extract all entities and concepts, and "
            "define their type using a short sentence. The output should be in the "
            'following format: [("entity", "definition of entity type in a short '
            'sentence"), ... ]\n\nParagraph: A {types} B',
        ),
        (
            Prompt("closed", ("person", "city")),
            "Given a passage, your task is to extract all entities of the following "
            "types and of no others: person, city. The output should be in a list of "
            'tuples of the following format: [("entity 1", "type of entity 1"), ... ]. '
            "Write every type as it is listed, and [] if there is no such entity."
            "\n\nPassage: A {types} B",
        ),
    ],
)
def test_prompt_is_word_for_word(prompt, user):
    system = "You are a helpful information extraction system."
    assert prompt.render("A {types} B") == [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
    ]


def test_prompt_takes_types_that_look_like_fields():
    user = Prompt("closed", ("{passage}", "{types}")).render("A")[1]["content"]
    assert "others: {passage}, {types}. " in user and user.endswith("Passage: A")


def test_prompt_goes_out_as_it_is(tmp_path):
    seen = []

    def mode(handler, content, number):
        seen.append(json.loads(content))
        handler.send(completion())

    with Server(mode) as server:
        ask_many(server.url, tmp_path, 1)
    assert seen == [ASKING.body("p0 Ada Lovelace, London.")]
    assert seen[0]["temperature"] == 0 and seen[0]["max_tokens"] == 64


def test_model_that_thinks_gets_its_limit_by_another_name():
    asking = Asking(Prompt("types"), "thinker", 500, reasoning=True)
    body = asking.body("Ada wrote.")
    assert body["max_completion_tokens"] == 500
    assert not {"temperature", "max_tokens"} & set(body)
    assert Budget(Price(1.0, 2.0, "")).worst(body) > 500 * 2 / 10**6


def test_key_depends_on_all_that_decides_the_answer():
    closed = Prompt("closed", ("person",))
    keys = {
        ASKING.key("a"),
        ASKING.key("b"),
        Asking(Prompt("types"), "teacher", 65).key("a"),
        Asking(Prompt("types"), "other", 64).key("a"),
        Asking(Prompt("definitions"), "teacher", 64).key("a"),
        Asking(closed, "teacher", 64).key("a"),
        Asking(Prompt("closed", ("city",)), "teacher", 64).key("a"),
    }
    assert len(keys) == 7 and all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)
    assert ASKING.key("a") == Asking(Prompt("types"), "teacher", 64).key("a")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Prompt("closed"),
        lambda: Prompt("types", ("person",)),
        lambda: Prompt("other"),
        lambda: Asking(Prompt("types"), "teacher", 0),
        lambda: Service("ftp://host/v1"),
        lambda: Service("http://user:password@host/v1"),
        lambda: Service("http://host/v1?key=1"),
        lambda: Service("http://[/v1"),
        lambda: Service("http://host:x/v1"),
        lambda: read_key("http://[/v1", None),
        lambda: Service("http://host/v1", concurrency=0),
        lambda: Service("http://host/v1", deadline=0),
        lambda: Service("http://host/v1", deadline=float("nan")),
        lambda: Budget(limit=float("nan")),
        lambda: Budget(limit=-1.0),
        lambda: Service("http://host/v1", requests_per_minute=0),
    ],
)
def test_settings_that_can_not_be_are_refused(make):
    with pytest.raises(InputError):
        make()


# ---- how a call ends: nothing hangs, nothing is asked for nothing

OK, FAULT, STOP = "ok", Fault, StopRun
FAULTS = {
    # name: (mode, how it ends, what it says, requests at least, at most)
    "right": (always(), OK, GOOD, 1, 1),
    "unavailable": (refusing(503, "down"), FAULT, "busy (503): down", 2, 4),
    "flaky": (at_first(refusing(503, "down"), 2), OK, GOOD, 3, 3),
    "broken": (refusing(500, "oops"), FAULT, "server error (500): oops", 2, 2),
    "busy": (at_first(refusing(429, "slow", Retry_After=1), 1), OK, GOOD, 2, 2),
    "busy for ever": (refusing(429, "slow"), FAULT, "busy (429): slow", 2, 2),
    "impatient": (refusing(429, "no", Retry_After=1000), STOP, "1000 seconds", 1, 1),
    "no quota": (refusing(429, "pay", "insufficient_quota"), STOP, "no quota", 1, 1),
    "not paid": (refusing(402, "pay"), STOP, "to be paid", 1, 1),
    "bad key": (echo_key, STOP, "refuses the key (401)", 1, 1),
    "forbidden": (echo_key_in(403), STOP, "refuses the key (403)", 1, 1),
    "no model": (refusing(404, "no x"), STOP, "no such model or address", 1, 1),
    "bad setting": (refusing(400, "n", "unsupported_parameter"), STOP, "setting", 1, 1),
    "bad request": (refusing(400, "what?"), FAULT, "refused (400): what?", 1, 1),
    "slow": (slow(4), FAULT, "no answer before the deadline", 1, 1),
    "half-open": (half_open, FAULT, "no answer before the deadline", 1, 1),
    "drip": (drip, FAULT, "no answer before the deadline", 1, 1),
    "HTML as JSON": (always(b"<html>"), FAULT, "not JSON: <html>", 2, 2),
    "cut JSON": (always(b'{"choices": [{'), FAULT, "not JSON", 2, 2),
    "HTML": (always(b"<p>", kind="text/html"), FAULT, "not JSON", 2, 2),
    "a string": (always("hello"), FAULT, "not JSON", 2, 2),
    "choices []": (always({"choices": []}), FAULT, "no choices", 2, 2),
    "choices null": (always({"choices": None}), FAULT, "no choices", 2, 2),
    "choice null": (always({"choices": [None]}), FAULT, "no choices", 2, 2),
    "content null": (always(completion(None)), FAULT, "no text", 2, 2),
    "error in 200": (always({"error": {"message": "oh"}}), FAULT, "a reply: oh", 2, 2),
    "brackets": (always(b"[" * 200_000), FAULT, "not JSON", 2, 2),
    "reset in body": (reset_in_body, FAULT, "the connection broke", 2, 2),
    "reset once": (at_first(reset_in_body, 1), OK, GOOD, 2, 2),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_ends_as_it_should(name):
    mode, end, told, fewest, most = FAULTS[name]
    # what comes right in the end needs its pauses; all else ends by retries or deadline
    deadline = 3.0 if end is OK else 1.0
    retries = 1 if fewest == most == 2 else 4
    with Server(mode) as server:
        result, seconds = ask_one(
            server.url, deadline=deadline, retries=retries, key=SECRET
        )
        n_requests = server.n_requests
    if end is OK:
        assert (result.status, result.text) == ("ok", told)
    else:
        assert type(result) is end and told in str(result)
    assert fewest <= n_requests <= most
    assert seconds <= deadline + 1
    assert SECRET not in str(result) and "s3ntinel" not in str(result)


def test_fault_retries_end_before_the_deadline():
    with Server(refusing(500, "oops")) as server:
        result, seconds = ask_one(server.url, deadline=30, retries=1)
    assert server.n_requests == 2 and seconds < 2 and "500" in str(result)


def test_fault_server_sends_a_true_reset():
    with Server(reset_in_body) as server:
        with socket.create_connection(server.server_address) as client:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                while client.recv(4096):
                    pass


def test_redirect_never_carries_a_passage_away(tmp_path):
    with Server(always()) as other:
        away = refusing(307, "", Location=f"{other.url}/chat/completions?a=1")
        with Server(away) as server:
            run, rows = ask_many(server.url, tmp_path)
        assert "redirects" in str(run.stopped) and not rows
        assert other.n_requests == 0


def test_refused_connection_stops_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        result, seconds = ask_one(url, deadline=5)
    assert isinstance(result, StopRun) and "Nobody answers" in str(result)
    assert seconds < 2


def test_server_that_goes_away_is_retried():
    """Only at the start does a refused connection mean a wrong address."""

    async def ask():
        server = Server(always(Connection="close"))
        async with Endpoint(Service(server.url, deadline=1.0)) as endpoint:
            with server:
                await endpoint.ask(ASKING.body("a"), Budget())
            server.server_close()
            await endpoint.ask(ASKING.body("b"), Budget())

    with pytest.raises(Fault):
        asyncio.run(ask())


@pytest.mark.parametrize(
    "value,wait",
    [("2", 2), ("0.5", 0.5), ("-1", 0), ("nan", None), ("soon", None), (None, None)],
)
def test_read_wait(value, wait):
    assert read_wait(value) == wait


def test_read_wait_takes_a_date():
    assert read_wait("Fri, 31 Dec 2100 23:59:59 GMT") > 1e6
    assert read_wait("Fri, 31 Dec 1999 23:59:59 GMT") == 0


# ---- all callers together


def test_busy_server_is_left_alone_by_all(tmp_path):
    with Server(at_first(refusing(429, "slow", Retry_After=1), 4)) as server:
        run, rows = ask_many(server.url, tmp_path, concurrency=4, deadline=5)
    assert len(rows) == 20 and not run.faults
    assert server.n_requests == 24
    # the first four were on their way together; then nobody asks for a second
    assert server.times[4] - server.times[3] >= 0.95


def test_requests_are_spaced(tmp_path):
    with Server(at_first(refusing(500, "x"), 2)) as server:
        ask_many(server.url, tmp_path, 8, requests_per_minute=600, deadline=5)
    gaps = [b - a for a, b in zip(server.times, server.times[1:])]
    assert len(gaps) == 9 and min(gaps) > 0.08


def test_run_stops_when_nothing_works(tmp_path):
    with Server(refusing(500, "oops")) as server:
        run, rows = ask_many(server.url, tmp_path, 40, retries=0, concurrency=2)
    assert "10 passages in a row failed" in str(run.stopped) and not rows
    assert server.n_requests <= 12


def test_run_goes_on_while_something_works(tmp_path):
    def mode(handler, content, number):
        handler.send(completion()) if number % 5 == 0 else handler.refuse(500, "oops")

    with Server(mode) as server:
        settings = {"retries": 0, "concurrency": 1}
        run, rows = ask_many(server.url, tmp_path, 40, **settings)
    assert (len(rows), run.faults.total()) == (8, 32) and not hasattr(run, "stopped")


def test_failed_passages_are_asked_again(tmp_path):
    def mode(handler, content, number):
        is_bad = "p3 " in json.loads(content)["messages"][1]["content"]
        handler.refuse(500, "oops") if is_bad else handler.send(completion())

    with Server(mode) as server:
        run, rows = ask_many(server.url, tmp_path, retries=0)
        assert len(rows) == 19 and run.faults == {"server error (500)": 1}
        server.mode = always()
        run, rows = ask_many(server.url, tmp_path)
    assert server.n_requests == 21
    assert {row["id"] for row in rows} == {f"p{i}" for i in range(20)}


# ---- what stands in the answers file

MANY = "[" + ", ".join(f'("e{i}", "thing")' for i in range(10_000)) + "]"
ANSWERS = {
    # name: (mode, status, entities)
    "right": (always(), "ok", PAIRS),
    "none": (always(completion("[]")), "ok", []),
    "prose": (always(completion("I see no entities.")), "unreadable", []),
    "half a list": (always(completion(GOOD[:40])), "truncated", PAIRS[:1]),
    "cut at length": (always(completion(GOOD[:40], "length")), "truncated", PAIRS[:1]),
    "all, then cut": (always(completion(GOOD, "length")), "truncated", PAIRS),
    "filtered": (always(completion(None, "content_filter")), "filtered", []),
    "declined": (always(completion(None, refusal="No.")), "filtered", []),
    "filtered before": (refusing(400, "policy", "content_filter"), "filtered", []),
    "too long": (refusing(400, "x", "context_length_exceeded"), "too_long", []),
    "too long, vLLM": (refusing(400, "maximum context length is 9"), "too_long", []),
    "too long, proxy": (always(b"", 413), "too_long", []),
    "another language": (
        always(completion('[("伦敦", "城市"), ("Ада", "человек")]')),
        "ok",
        [["伦敦", "城市"], ["Ада", "человек"]],
    ),
    "line ends": (always(completion('[("a\u2028b", "x")]')), "ok", [["a\u2028b", "x"]]),
    "no usage": (always(UNCOUNTED), "ok", PAIRS),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_kept_with_its_status(name, tmp_path):
    mode, status, entities = ANSWERS[name]
    with Server(mode) as server:
        _, (row,) = ask_many(server.url, tmp_path, 1)
        ask_many(server.url, tmp_path, 1)
    assert (row["status"], row["entities"]) == (status, entities)
    assert row["id"] == "p0" and row["text"] == "p0 Ada Lovelace, London."
    assert row["key"] == ASKING.key(row["text"])
    assert server.n_requests == 1, "an answer of any status is asked for once"
    usage = row["teacher"].pop("usage")
    assert row["teacher"] == {"model": "teacher", "prompt": "types"}
    assert usage.keys() == {"input_tokens", "output_tokens"}


def test_answer_of_ten_thousand_entities_is_kept_as_text(tmp_path):
    with Server(always(completion(MANY))) as server:
        _, (row,) = ask_many(server.url, tmp_path, 1)
    assert row["raw"] == MANY and len(row["entities"]) == 1000


def test_answer_with_lone_surrogates_is_plain_text(tmp_path):
    body = json.dumps(completion("@")).replace("@", r"[(\"\ud83d\", \"x\")]").encode()
    with Server(always(body)) as server:
        _, (row,) = ask_many(server.url, tmp_path, 1)
    assert row["raw"] == '[("\ufffd", "x")]'


def test_long_passages_are_not_sent(tmp_path):
    with Server(always()) as server:
        _, rows = ask_many(server.url, tmp_path, 3, context=100)
    assert server.n_requests == 0
    assert {row["status"] for row in rows} == {"too_long"}


def test_passages_are_asked_once_each_and_what_is_no_text_never(tmp_path):
    lines = [{"id": i, "text": text} for i, text in enumerate(["a", "b", "a", " ", 7])]
    lines += [{"id": 5, "text": "\ud83d"}, {"id": "\ud83d", "text": "c"}]
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions, left_out = read_questions(path, ASKING)
    assert [(q.id, q.text) for q in questions] == [("0", "a"), ("1", "b")]
    assert left_out == {"twice": 1, "unusable": 4}


# ---- keys


@pytest.mark.parametrize(
    "url,name,variables,key",
    [
        ("https://api.openai.com/v1", None, {"OPENAI_API_KEY": " sk-a\n"}, "sk-a"),
        ("https://api.openai.com/v1", "MINE", {"MINE": "sk-b"}, "sk-b"),
        ("http://localhost:1/v1", None, {"OPENAI_API_KEY": "sk-a"}, "EMPTY"),
        ("https://api.openai.com.evil/v1", None, {"OPENAI_API_KEY": "sk-a"}, "EMPTY"),
        ("http://api.openai.com/v1", None, {"OPENAI_API_KEY": "sk-a"}, "EMPTY"),
        ("http://localhost:1/v1", "MINE", {"MINE": "sk-b"}, "sk-b"),
        ("http://localhost:1/v1", "MINE", {}, None),
        ("https://api.openai.com/v1", None, {}, None),
        ("http://localhost:1/v1", "MINE", {"MINE": "sk-b\nX: y"}, None),
        ("http://localhost:1/v1", "MINE", {"MINE": "sk-ü"}, None),
    ],
)
def test_key_goes_only_where_it_belongs(url, name, variables, key, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    if key is not None:
        assert read_key(url, name) == key
        assert key == "EMPTY" or key not in repr(Service(url, key=key))
    else:
        with pytest.raises(InputError) as caught:
            read_key(url, name)
        assert "sk-" not in str(caught.value)


def test_nothing_of_the_environment_is_sent(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OPENAI_PROJECT_ID", SECRET)
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS", f"X-Key: {SECRET}\nAuthorization: {SECRET}"
    )
    with Server(always()) as server:
        ask_one(server.url)
    (headers,) = server.headers
    assert SECRET not in str(headers)
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["authorization"] == "Bearer EMPTY"


@pytest.mark.parametrize("mode", [echo_key, echo_key_in(400), echo_key_in(500)])
def test_key_is_in_nothing_that_is_told_or_written(mode, tmp_path):
    write_passages(tmp_path / "passages.jsonl", 3)
    env = {"TEACHER_KEY": SECRET, "OPENAI_LOG": "debug", "PYTHONFAULTHANDLER": "1"}
    with Server(mode) as server:
        args = ("--key-env", "TEACHER_KEY", "--retries", "1")
        done = teach(tmp_path, server.url, *args, env=env)
    assert f"Bearer {SECRET}" in str(server.headers), "or the test shows nothing"
    assert done.returncode == 1 and "DEBUG" in done.stderr
    told = done.stdout + done.stderr
    told += "".join(p.read_text() for p in tmp_path.iterdir() if p.is_file())
    assert "s3ntinel" not in told and SECRET[:9] not in told


def test_key_is_in_no_log_of_any_library(caplog):
    caplog.set_level("DEBUG")
    with Server(echo_key) as server:
        error, _ = ask_one(server.url, key=SECRET)
    assert "httpcore" in caplog.text or "openai" in caplog.text
    for told in (caplog.text, repr(error), str(error), repr(error.__cause__)):
        assert "s3ntinel" not in told


@pytest.mark.parametrize(
    "text,key,told",
    [
        ("no key abc-123/x", "abc-123/x", "no key [key]"),
        ("no key sk-other's, sk-a", "abc-123/x", "no key [key] [key]"),
        ("EMPTY is no secret", "EMPTY", "EMPTY is no secret"),
        ("line\nend", "", "line end"),
        ("x" * 300, "", "x" * 200),
    ],
)
def test_redact(text, key, told):
    assert redact(text, key) == told


def test_key_that_a_teacher_repeats_is_not_kept(tmp_path):
    with Server(always(completion(f"Your key: {SECRET}"))) as server:
        _, (row,) = ask_many(server.url, tmp_path, 1, key=SECRET)
    assert row["raw"] == "Your key: [key]"


# ---- money


@pytest.mark.parametrize(
    "mode", [always(), at_first(reset_in_body, 5), always(UNCOUNTED)]
)
def test_budget_is_never_crossed(mode, tmp_path):
    # 100 tokens in and 20 out each, at a dollar a token: 120 dollars; a broken call
    # may have cost its worst price
    budget = Budget(Price(1e6, 1e6, ""), limit=4000.0)
    with Server(mode) as server:
        run, rows = ask_many(server.url, tmp_path, 60, budget=budget, deadline=5)
    worst = budget.worst(ASKING.body("p10 Ada Lovelace, London."))
    assert run.is_out_of_budget and not run.faults
    assert 120 * len(rows) <= budget.spent <= 4000
    assert budget.spent + worst > 4000, "and it is used as far as it goes"
    if rows[-1]["teacher"]["usage"]["input_tokens"] is None:
        assert budget.spent >= worst * (len(rows) - 1)
    elif server.n_requests == len(rows):
        assert budget.spent == pytest.approx(120 * len(rows))


def test_budget_waits_for_calls_on_their_way():
    async def spend():
        budget = Budget(Price(1e6, 0.0, ""), limit=1.5 * worst)
        async with budget.bill(body) as bill:
            bill.begin()
            waiting = asyncio.ensure_future(use(budget))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            bill.end(1, 0)
        await waiting
        with pytest.raises(OutOfBudget):
            await use(budget)

    async def use(budget):
        async with budget.bill(body) as bill:
            bill.begin()

    body = ASKING.body("Ada")
    worst = Budget(Price(1e6, 0.0, "")).worst(body)
    asyncio.run(spend())


PRICES = {"teacher": {"input": 1.0, "output": 2.0, "date": "2026-01-31"}}


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"a": 1}', '{"a": {"input": -1, "output": 1, "date": ""}}']
)
def test_prices_that_are_none_are_refused(text, tmp_path):
    (tmp_path / "prices.json").write_text(text)
    with pytest.raises(InputError):
        read_prices(tmp_path / "prices.json")


def test_dry_run_tells_and_sends_nothing(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 20)
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    args = ("--prices", str(tmp_path / "prices.json"))
    with Server(always()) as server:
        done = teach(tmp_path, server.url, "--dry-run")
        assert done.returncode == 1 and "no price for 'teacher'" in done.stderr
        done = teach(tmp_path, server.url, "--dry-run", *args)
        assert done.returncode == 0 and "20 passages to ask" in done.stdout
        assert server.n_requests == 0 and not (tmp_path / "answers.jsonl").exists()
        done = teach(tmp_path, server.url, "--limit", "5", *args)
        assert done.returncode == 0 and "500 + 100 tokens, $0.0007" in done.stdout
        done = teach(tmp_path, server.url, "--dry-run", *args)
    assert "15 passages to ask, 5 answered" in done.stdout
    assert "300 tokens out (measured on 5 answers)" in done.stdout
    assert server.n_requests == 5


def test_budget_of_the_script_counts_all_runs(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 20)
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    args = ("--prices", str(tmp_path / "prices.json"), "--budget", "0.004")
    with Server(always()) as server:
        first = teach(tmp_path, server.url, *args)
        n_rows = len(read_answers(tmp_path / "answers.jsonl"))
        second = teach(tmp_path, server.url, *args)
    assert first.returncode == second.returncode == 1
    assert "budget of $0.004" in second.stderr
    body = Asking(Prompt("types"), "teacher").body("p10 Ada Lovelace, London.")
    worst = Budget(Price(1.0, 2.0, "")).worst(body)
    assert n_rows == server.n_requests == (0.004 - worst) // 0.00014 + 1


# ---- the script


def test_script_writes_rows_and_a_report_and_resumes(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 20)
    out = tmp_path / "answers.jsonl"
    with Server(counting()) as server:
        done = teach(tmp_path, server.url, "--limit", "12")
        assert done.returncode == 0, done.stderr
        assert "12 ok" in done.stdout and done.stderr == ""
        with out.open("a") as file:
            file.write('{"id": "torn')  # as a kill leaves it
        done = teach(tmp_path, server.url)
    assert done.returncode == 0, done.stderr
    assert set(server.answered.values()) == {1} and len(server.answered) == 20
    rows = read_answers(out)
    assert len({row["key"] for row in rows}) == len(rows) == 20
    report = json.loads((tmp_path / "answers.report.json").read_text())
    assert report["run"]["rows"] == 8 and report["run"]["there_already"] == 12
    assert report["file"]["statuses"] == {"ok": 20}
    assert report["file"]["input_tokens"] == 2000 and report["file"]["dollars"] is None


def test_script_tells_how_many_failed_and_why(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 3)
    with Server(refusing(500, "oops")) as server:
        done = teach(tmp_path, server.url, "--retries", "0")
    assert done.returncode == 1
    assert "3 passages have no answer, 3 of them because of: server error (500)" in (
        done.stderr
    )


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_script_that_is_stopped_leaves_whole_rows(number, code, tmp_path):
    write_passages(tmp_path / "passages.jsonl", 500)
    out = tmp_path / "answers.jsonl"
    with Server(counting(0.05)) as server:
        process = subprocess.Popen(
            command(tmp_path, server.url, "--deadline", "30"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: server.n_requests > 20)
        second = teach(tmp_path, server.url)
        begin = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == code and time.monotonic() - begin < 3
    assert "Traceback" not in errors
    assert second.returncode == 1 and "Another run is writing" in second.stderr
    rows = read_answers(out)
    assert 0 < len(rows) < 500
    assert sum(server.answered.values()) - len(rows) <= 8
    report = json.loads((tmp_path / "answers.report.json").read_text())
    assert report["run"]["rows"] == len(rows)


def test_script_on_a_full_disk_keeps_whole_rows(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 60)
    out = tmp_path / "answers.jsonl"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))

    with Server(counting()) as server:
        done = teach(tmp_path, server.url, preexec_fn=limit)
        assert done.returncode == 1 and "takes no more rows: File too large" in (
            done.stderr
        )
        n_rows = len(read_answers(out))
        assert 0 < n_rows < 60
        done = teach(tmp_path, server.url)
    assert done.returncode == 0
    assert len({row["key"] for row in read_answers(out)}) == 60


def test_script_imports_nothing_heavy(tmp_path):
    code = (
        "import runpy, sys; sys.argv = ['teacher', '--help']\n"
        "try: runpy.run_module('training.teacher', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'spacy', 'transformers', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_script_reads_types_from_a_file(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 1)
    (tmp_path / "types.txt").write_text("person\n\ncity\nperson\n")
    seen = []

    def mode(handler, content, number):
        seen.append(json.loads(content)["messages"][1]["content"])
        handler.send(completion())

    args = ("--prompt", "closed", "--types", f"@{tmp_path / 'types.txt'}")
    with Server(mode) as server:
        done = teach(tmp_path, server.url, *args)
    assert done.returncode == 0 and "of no others: person, city." in seen[0]


# ---- the Batch API


def in_batches(server, tmp_path, step, **limits):
    """Take a step in this process."""
    out = tmp_path / "answers.jsonl"
    journal = Journal(out)
    ledger = Ledger(journal.rows(), ASKING, journal=journal)
    questions, _ = read_questions(tmp_path / "passages.jsonl", ASKING)

    async def work():
        async with Batches(Service(server.url, key=SECRET), out) as batches:
            if step == "submit":
                fresh = list(ledger.open(questions))
                return await batches.submit(fresh, ASKING, FileLimits(**limits))
            if step == "poll":
                return await batches.poll()
            return await batches.collect(questions, ledger)

    try:
        return asyncio.run(work())
    finally:
        journal.close()


def test_batch_from_submitting_to_collecting_twice(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 25)
    with BatchServer() as server:
        assert in_batches(server, tmp_path, "submit", requests=10) == 25
        assert len(server.batches) == 3
        assert in_batches(server, tmp_path, "submit") == 0, "they are on their way"
        assert "in_progress" in in_batches(server, tmp_path, "poll")[0]
        assert in_batches(server, tmp_path, "collect") == {}
        server.finish()
        path = tmp_path / "answers.batch.json"
        before = path.read_text()
        assert in_batches(server, tmp_path, "collect") == {}
        assert in_batches(server, tmp_path, "collect") == {}
        path.write_text(before)  # as a kill after the last row leaves it
        assert in_batches(server, tmp_path, "collect") == {}
    rows = read_answers(tmp_path / "answers.jsonl")
    assert len({row["key"] for row in rows}) == len(rows) == 25
    assert rows[0]["entities"] == PAIRS
    state = (tmp_path / "answers.batch.json").read_text()
    assert SECRET not in state and "Lovelace" not in state


def test_batch_files_stay_below_their_size(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 25)
    with BatchServer() as server:
        in_batches(server, tmp_path, "submit", n_bytes=5000)
        assert len(server.files) > 2
        assert max(map(len, server.files.values())) <= 5000
        lines = b"".join(server.files.values()).splitlines()
    assert len(lines) == 25
    row = json.loads(lines[0])
    assert row["body"] == ASKING.body("p0 Ada Lovelace, London.")
    assert (row["method"], row["url"]) == ("POST", "/v1/chat/completions")
    assert len(row["custom_id"]) == 64


def test_batch_that_failed_or_expired_is_submitted_again(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 10)
    with BatchServer(lambda i: "batch_expired" if i >= 6 else None) as server:
        in_batches(server, tmp_path, "submit")
        server.finish("expired")
        assert in_batches(server, tmp_path, "collect") == {"batch_expired": 4}
        assert len(read_answers(tmp_path / "answers.jsonl")) == 6
        server.fail = lambda i: None
        assert in_batches(server, tmp_path, "submit") == 4
        server.finish()
        assert in_batches(server, tmp_path, "collect") == {}
    assert set(server.answered.values()) == {1} and len(server.answered) == 10


def test_batch_that_was_made_just_before_a_kill_is_found(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 10)
    path = tmp_path / "answers.batch.json"
    with BatchServer() as server:
        in_batches(server, tmp_path, "submit", requests=5)
        state = json.loads(path.read_text())
        state["batches"][1].update(batch_id=None, status="uploaded")
        path.write_text(json.dumps(state))
        assert in_batches(server, tmp_path, "submit") == 0
        assert len(server.batches) == 2
        del server.batches["batch-1"]  # killed before it was made
        path.write_text(json.dumps(state))
        in_batches(server, tmp_path, "submit")
        assert len(server.batches) == 2
        server.finish()
        assert in_batches(server, tmp_path, "collect") == {}


def test_batch_by_the_script(tmp_path):
    write_passages(tmp_path / "passages.jsonl", 5)
    with BatchServer(lambda i: "oops" if i == 0 else None) as server:
        done = teach(tmp_path, server.url, "--batch", "submit")
        assert done.returncode == 0 and "5 requests submitted" in done.stdout
        done = teach(tmp_path, server.url)
        assert done.returncode == 1 and "--batch collect first" in done.stderr
        done = teach(tmp_path, server.url, "--batch", "poll")
        assert "batch-0: in_progress" in done.stdout
        server.finish()
        other = teach(tmp_path, server.url, "--batch", "collect", "--max-tokens", "9")
        assert other.returncode == 1 and "asks for other passages" in other.stderr
        done = teach(tmp_path, server.url, "--batch", "collect")
    assert done.returncode == 1 and "1 passages have no answer" in done.stderr
    assert len(read_answers(tmp_path / "answers.jsonl")) == 4


@pytest.mark.parametrize(
    "mode,told",
    [
        (refusing(500, "oops"), "The upload failed, server error (500): oops"),
        (always(b"<html>", kind="text/html"), "the reply makes no sense"),
        (echo_key, "refuses the key"),
    ],
)
def test_batch_server_that_fails_is_told(mode, told, tmp_path):
    write_passages(tmp_path / "passages.jsonl", 5)
    with Server(mode) as server, pytest.raises(InputError, match=re.escape(told)):
        in_batches(server, tmp_path, "submit")
    assert server.n_requests == 1
