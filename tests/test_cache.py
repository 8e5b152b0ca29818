"""Answers on disk: asked once, right whatever happens to the file."""

import contextlib
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from random import Random

import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy import registry

from spacy_uniner.students import database as database_module
from spacy_uniner.students import store as store_module
from spacy_uniner.students.cache import CachedStudent, decode, encode
from spacy_uniner.students.calibration import Calibration
from spacy_uniner.students.checkpoint import SHIPPED, find_checkpoint
from spacy_uniner.students.local import LocalStudent
from spacy_uniner.students.store import _sum
from spacy_uniner.types import Answer, Mention, Student

ADA, EVE = "Ada Byron met Charles.", "Eve of London slept."
QUESTIONS = [(ADA, ["person", "city"]), (EVE, ["person"])]


class Echo:
    """Answers with the first word of the passage, and remembers what it was asked."""

    max_passage_tokens = 40

    def __init__(self, identity="echo", size=0) -> None:
        self.identity, self.size = identity, size
        self.asked = []

    def count_tokens(self, text):
        return len(text)

    def __call__(self, questions):
        self.asked += [(passage, list(types)) for passage, types in questions]
        return [[self.answer(p, t) for t in types] for p, types in questions]

    def answer(self, passage, entity_type):
        mention = Mention(passage.split()[0], len(entity_type) / 100)
        text = f"{self.identity} {entity_type}{'.' * self.size}"
        return Answer((mention,), 0.1, 0, 0, True, text, 3)


@registry.misc("test.EchoStudent.v1")
def make_echo():
    return Echo()


def cached(path, student=None, **settings):
    return CachedStudent(student or Echo(), path=str(path), **settings)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


@contextlib.contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def change(path, statement, *values):
    """Do something to the file behind the cache's back."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


# ---- what is asked


def test_cache_asks_only_what_is_missing(path):
    student = cached(path)
    assert student(QUESTIONS) == Echo()(QUESTIONS)
    assert student.student.asked == QUESTIONS
    assert (student.hits, student.misses) == (0, 3)

    again = cached(path)  # as in a second run, with one label more
    more = [(EVE, ["city", "person"]), ("", []), (ADA, ["city", "drug", "person"])]
    assert again(more) == Echo()(more)
    assert again.student.asked == [(EVE, ["city"]), (ADA, ["drug"])]
    assert (again.hits, again.misses) == (3, 2)
    assert again(more) == Echo()(more) and len(again.student.asked) == 2


def test_cache_asks_duplicates_of_a_call_once(path):
    student = cached(path)
    questions = [(ADA, ["a", "a", "b"]), (EVE, ["a"]), (ADA, ["c", "b"])]
    assert student(questions) == Echo()(questions)
    assert student.student.asked == [(ADA, ["a", "b", "c"]), (EVE, ["a"])]
    assert (student.hits, student.misses) == (2, 4)


def test_cache_of_nothing_asks_and_opens_nothing(path):
    student = cached(path)
    assert student([]) == [] and student.student.asked == []
    assert not path.exists()


def test_cache_keeps_students_apart(path):
    for identity in ("one", "other"):
        student = cached(path, Echo(identity))
        assert student(QUESTIONS) == Echo(identity)(QUESTIONS)
        assert student.misses == 3
    assert cached(path, Echo("one"))(QUESTIONS) == Echo("one")(QUESTIONS)


def test_cache_borders_of_passage_and_type_count(path):
    student = cached(path)
    questions = [("a b", ["c"]), ("a", ["b c", 'b", "c']), ('a", "b', ["c"])]
    assert student(questions) == Echo()(questions)
    assert student.misses == 4


def test_cache_passes_lengths_through_and_is_a_student(path):
    student = cached(path)
    assert isinstance(student, Student)
    assert student.max_passage_tokens == 40 and student.count_tokens("abc") == 3
    assert student.identity == "echo"
    outer = cached(path.with_name("outer"), student)  # a cache can be cached
    assert outer(QUESTIONS) == Echo()(QUESTIONS)


def test_cache_stores_nothing_of_a_call_that_fails(path):
    student = cached(path)
    student.student.answer = None
    with pytest.raises(TypeError):
        student(QUESTIONS)
    del student.student.answer
    assert student(QUESTIONS) == Echo()(QUESTIONS)
    assert student.misses == 3


def test_cache_of_a_student_that_miscounts_says_so(path):
    student = cached(path)
    student.student.__class__ = type("Short", (Echo,), {"__call__": lambda *_: [[]]})
    with pytest.raises(ValueError, match="U019"):
        student(QUESTIONS)


class Failed(Answer):
    """As a student of another house may mark what it could not answer."""


@pytest.mark.parametrize("answer", [Answer(unreadable=1, text=""), Failed()])
def test_cache_does_not_keep_what_is_no_answer(path, answer):
    student = cached(path)
    student.student.answer = lambda *_: answer
    assert student(QUESTIONS[:1]) == [[answer, answer]]
    del student.student.answer
    assert student(QUESTIONS) == Echo()(QUESTIONS)


# ---- round trip

probability = st.floats(0, 1)
answers = st.builds(
    Answer,
    mentions=st.lists(st.builds(Mention, st.text(), probability)).map(tuple),
    p_empty=probability,
    unreadable=st.integers(0, 9),
    truncated=st.integers(0, 1),
    certified=st.booleans(),
    text=st.text(min_size=1),
    n_tokens=st.integers(0, 999),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.text(), answers)
def test_cache_answers_round_trip_exactly(tmp_path, passage, answer):
    student = cached(tmp_path / "round")
    student.student.identity = str(time.time_ns())
    student.student.answer = lambda *_: answer
    before = student([(passage, ["t"])])
    after = cached(tmp_path / "round", Echo(student.identity))([(passage, ["t"])])
    assert after == before == [[answer]]
    assert repr(after) == repr(before)  # types too: True is not 1
    assert decode(encode(answer, passage), passage) == answer


def test_cache_knows_every_field_of_an_answer():
    """A field that is added must be kept too; its default tells its kind."""
    assert [f.name for f in fields(Mention)] == ["text", "probability"]
    full = Answer((Mention("Ada", 0.25),), 0.5, 2, 1, True, "x", 7)
    assert all(getattr(full, f.name) != f.default for f in fields(Answer))
    assert decode(encode(full, ADA), ADA) == full


def test_cache_takes_any_unicode(path):
    questions = [("\ud83d half \x00 日本 \u202e", ["\ud800", "名"])]
    student = cached(path)
    first = student(questions)
    assert student(questions) == first and student.hits == 2


# ---- settings


@pytest.mark.parametrize("identity", [None, "", 5])
def test_cache_of_a_student_without_identity_says_what_to_do(path, identity):
    with pytest.raises(ValueError, match="U090.*Echo.*property `identity`"):
        cached(path, Echo(identity))(QUESTIONS)
    assert not path.exists()


def test_cache_refuses_a_student_without_identity_before_it_is_asked(path, make_nlp):
    with pytest.raises(ValueError, match="U090.*CannedStudent"):
        cached(path, make_nlp({"a": []}).get_pipe("uniner").student)


def test_cache_does_not_compute_an_identity_before_it_must(path):
    class Slow(Echo):
        identity = property(lambda self: pytest.fail("too early"), lambda *_: None)

    cached(path, Slow())


@pytest.mark.parametrize("where", ["", "  ", "a\0b", ".", "/"])
def test_cache_path_must_be_a_file(where):
    with pytest.raises(ValueError, match="U091"):
        cached(where)


def test_cache_bound_must_not_be_negative(path):
    with pytest.raises(ValueError, match="U039.*max_mb"):
        cached(path, max_mb=-1)


# ---- damage


def _rewrite(body):
    """A change of all rows that keeps their checksums right."""

    def damage(path):
        for (key,) in change(path, "SELECT key FROM answers"):
            query = "UPDATE answers SET body = ?, sum = ? WHERE key = ?"
            change(path, query, body, _sum(key, body), key)

    return damage


def _swap(path):
    """Each row with the body and checksum of another."""
    rows = change(path, "SELECT id, body, sum FROM answers")
    for (id, _, _), (_, body, told) in zip(rows, rows[1:] + rows[:1]):
        change(
            path, "UPDATE answers SET body = ?, sum = ? WHERE id = ?", body, told, id
        )


DAMAGES = {
    "cut": lambda p: change(p, "UPDATE answers SET body = substr(body, 1, 9)"),
    "flipped": lambda p: change(p, "UPDATE answers SET body = body || x'20'"),
    "checksum": lambda p: change(p, "UPDATE answers SET sum = x'0011'"),
    "checksum of another kind": lambda p: change(p, "UPDATE answers SET sum = 5"),
    "number": lambda p: change(p, "UPDATE answers SET body = 5"),
    "text": lambda p: change(p, "UPDATE answers SET body = CAST(x'FF' AS TEXT)"),
    "swapped": _swap,
    "no JSON": _rewrite(b"[0,[]"),
    "no UTF-8": _rewrite(b"\xff"),
    "no list": _rewrite(b"5"),
    "deep": _rewrite(b"[" * 100_000),
    "too short": _rewrite(b'[0,[],0.5,0,0,true,"[]"]'),
    "too long": _rewrite(b'[0,[],0.5,0,0,true,"[]",2,2]'),
    "of another kind": _rewrite(b'[0,[],0.5,0,0,1,"[]",2]'),
    "mention of another kind": _rewrite(b'[0,[[5,0.5]],0.5,0,0,true,"[]",2]'),
    "mention without probability": _rewrite(b'[0,[["Ada"]],0.5,0,0,true,"[]",2]'),
    "no mention of it": _rewrite(b'[0,[["Bob",0.5]],0.5,0,0,true,"[]",2]'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_cache_damaged_rows_are_recomputed_and_replaced(path, damage):
    cached(path)(QUESTIONS)
    DAMAGES[damage](path)
    student = cached(path)
    with no_warning():
        assert student(QUESTIONS) == Echo()(QUESTIONS)
        assert student.misses == 3
        assert student(QUESTIONS) == Echo()(QUESTIONS)
        assert student.misses == 3
    assert change(path, "SELECT count(*) FROM answers") == [(3,)]


def test_cache_one_damaged_row_costs_one_question(path):
    cached(path)(QUESTIONS)
    change(path, "UPDATE answers SET body = x'00' WHERE id = 2")
    student = cached(path)
    assert student(QUESTIONS) == Echo()(QUESTIONS)
    assert student.student.asked == [(ADA, ["city"])]


MANY = [(f"Ada {i} wrote.", ["person", "city"]) for i in range(400)]


def _scramble(path):
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data)):
        data[at] ^= 0x5A
    path.write_bytes(data)


def _overwrite(path, at, new):
    data = path.read_bytes()
    path.write_bytes(data[:at] + new + data[at + len(new) :])


FILES = {
    "web page": lambda p: p.write_text("<!doctype html>" + "x" * 5000),
    "short": lambda p: p.write_bytes(b"\x00" * 50),
    "truncated": lambda p: os.truncate(p, p.stat().st_size // 2),
    "truncated within a page": lambda p: os.truncate(p, 5000),
    "head": lambda p: p.write_bytes(b"\xff" * 100 + p.read_bytes()[100:]),
    "scrambled": _scramble,
    "table": lambda p: change(p, "DROP TABLE answers"),
    "column": lambda p: change(p, "ALTER TABLE answers RENAME body TO bode"),
    "format": lambda p: _overwrite(p, 44, b"\x09" * 4),
}


@pytest.mark.parametrize("damage", FILES)
def test_cache_damaged_files_are_set_aside(path, damage):
    cached(path)(MANY)
    FILES[damage](path)
    before = path.read_bytes()
    student = cached(path)
    with pytest.warns(UserWarning, match="U105.*set aside") as told:
        assert student(MANY) == Echo()(MANY)
    assert len(told) == 1 and student.misses == 800
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.name in str(told[0].message)
    assert len(aside.read_bytes()) >= min(len(before), 4096)  # sqlite may mend it first
    with no_warning():
        assert student(MANY) == cached(path)(MANY) == Echo()(MANY)
    assert student.hits == 800


def _flip(path, random):
    """Write nonsense over some bytes of a file."""
    data = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 5, 200])):
        at = random.choice([random.randrange(100), random.randrange(len(data))])
        data[at] = random.randrange(256)
    path.write_bytes(data)


@pytest.mark.parametrize("end", ["", "-wal"])
def test_cache_any_damage_costs_the_cache_only(path, tmp_path, end):
    random = Random(0)
    student = cached(path)
    student(QUESTIONS + MANY)
    if not end:
        student._store.database.close()
    for number in range(int(os.environ.get("FLIPS", 40))):
        copy = tmp_path / f"copy-{number}"
        for name in tmp_path.glob("answers.sqlite*"):
            shutil.copy(name, str(copy) + name.name.removeprefix(path.name))
        _flip(Path(f"{copy}{end}"), random)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            damaged = cached(copy)
            for _ in range(2):
                assert damaged(MANY) == Echo()(MANY)
        codes = {str(w.message)[:6] for w in told}
        assert codes <= {"[U105]", "[U106]"} and len(told) <= 1
        # one byte of the head makes a file read-only, which is no damage to see
        assert damaged.hits >= 800 or codes == {"[U106]"}


def test_cache_file_damaged_while_open_is_set_aside(path):
    student = cached(path)
    student(MANY)
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")  # or the log hides it
    _scramble(path)
    student._store.database._connection.execute(
        "PRAGMA shrink_memory"
    )  # or its memory does
    with pytest.warns(UserWarning, match="U105"):
        assert student(MANY) == Echo()(MANY)
    with no_warning():
        assert cached(path)(MANY) == Echo()(MANY)


def test_cache_file_without_its_mark_is_still_known(path):
    cached(path)(MANY)
    _overwrite(path, 68, b"\0" * 4)
    with no_warning():
        student = cached(path)
        assert student(MANY) == Echo()(MANY) and student.hits == 800
    assert change(path, "PRAGMA application_id") == [(database_module.MARK,)]


def test_cache_empty_file_is_begun_without_a_word(path):
    path.touch()
    with no_warning():
        assert cached(path)(QUESTIONS) == Echo()(QUESTIONS)


def test_cache_file_that_another_set_aside_is_opened_anew(path):
    """Nor does the old connection take the new file's log with it."""
    one, other = cached(path), cached(path)
    one(QUESTIONS)
    other(QUESTIONS)
    for end in ("-wal", "-shm", ""):
        os.replace(f"{path}{end}", f"{path}.aside{end}")
    assert one(MANY) == Echo()(MANY)
    assert Path(f"{path}-wal").stat().st_size
    with no_warning():
        assert other(MANY) == Echo()(MANY)
    assert (other.hits, other.misses) == (803, 0)
    assert change(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("rows", [0, 1])
def test_cache_database_of_something_else_is_left_as_it_is(path, rows):
    change(path, "CREATE TABLE invoices (amount)")
    change(path, "INSERT INTO invoices SELECT 5 WHERE ?", rows)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="U092"):
        cached(path)(QUESTIONS)
    assert path.read_bytes() == before


# ---- disks


def _tell(queue, work):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = work()
    queue.put((result, [str(w.message) for w in told]))


def in_child(work):
    """RETURNS: What work gives in a forked process of its own, and its warnings."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_tell, args=(queue, work))
    process.start()
    try:
        return queue.get(timeout=60)
    finally:
        process.kill()
        process.join(30)


def test_cache_full_disk_costs_the_cache_only(path):
    cached(path)(QUESTIONS)

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        student = cached(path)
        right = [student(MANY) == Echo()(MANY) for _ in range(3)]
        return right, student(QUESTIONS) == Echo()(QUESTIONS), student.hits

    (right, old, hits), told = in_child(work)
    assert right == [True] * 3 and old and hits == 3
    assert len(told) == 1 and "U106" in told[0]
    with no_warning():
        assert cached(path)(QUESTIONS + MANY) == Echo()(QUESTIONS + MANY)


def test_cache_goes_on_when_there_is_room_again(path, monkeypatch):
    student = cached(path)
    student(QUESTIONS)
    connection = student._store.database._connection
    n_pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {n_pages}").fetchall()
    with pytest.warns(UserWarning, match="U106.*full") as told:
        for _ in range(2):
            assert student(MANY) == Echo()(MANY)
    assert len(told) == 1 and student.hits == 0
    connection.execute("PRAGMA max_page_count = 100000").fetchall()
    student._store.database._resume_at = 0.0
    assert student(MANY) == student(MANY) == Echo()(MANY)
    assert student.hits == 800


@pytest.mark.parametrize("is_there", [False, True])
def test_cache_read_only_folder_costs_the_cache_only(is_there):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answers.sqlite")
        if is_there:
            cached(path)(QUESTIONS)
        os.chmod(folder, 0o555)

        def work():
            if os.getuid() == 0:
                os.setuid(65534)
            student = cached(path)
            questions = QUESTIONS + MANY[:1]  # something that is new, too
            return [student(questions) == Echo()(questions) for _ in range(3)]

        right, told = in_child(work)
        os.chmod(folder, 0o755)
    assert right == [True] * 3
    assert len(told) == 1 and "U106" in told[0]


def test_cache_folder_that_can_not_be_made_costs_the_cache_only(tmp_path):
    (tmp_path / "file").touch()
    student = cached(tmp_path / "file" / "answers")
    with pytest.warns(UserWarning, match="U106") as told:
        for _ in range(2):
            assert student(QUESTIONS) == Echo()(QUESTIONS)
    assert len(told) == 1


def test_cache_makes_its_folder(tmp_path):
    student = cached(tmp_path / "a" / "b" / "answers")
    student(QUESTIONS)
    student(QUESTIONS)
    assert student.hits == 3


def test_cache_locked_for_too_long_costs_the_cache_only(path, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.2)
    cached(path)(QUESTIONS)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        student = cached(path)
        with pytest.warns(UserWarning, match="U106.*locked"):
            assert student(QUESTIONS + MANY) == Echo()(QUESTIONS + MANY)
    assert student.hits == 3


# ---- size


def size(path):
    """Of the file, when its log is written back."""
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def batch(number, count=40):
    return [(f"Passage {number} {i}", ["t"]) for i in range(count)]


def test_cache_keeps_to_its_bound_and_drops_the_oldest(path):
    student = cached(path, Echo(size=2000), max_mb=1)
    for number in range(20):
        student(batch(number))
        assert size(path) <= 2**20
    assert size(path) > 2**19  # and uses what it may
    student(batch(19))
    assert student.hits == 40  # the newest
    student(batch(0))
    assert student.hits == 40  # the oldest are gone


def test_cache_keeps_what_was_used(path, monkeypatch):
    monkeypatch.setattr(store_module, "TOUCH_SECONDS", 0.0)
    student = cached(path, Echo(size=2000), max_mb=1)
    for number in range(20):
        student(batch(number))
        before = student.hits
        student(batch(0))
        assert student.hits == before + 40


def test_cache_uses_near_to_each_other_count_as_one(path):
    student = cached(path)
    for _ in range(2):
        student(QUESTIONS)
    used = change(path, "SELECT used FROM answers")
    assert len(set(used)) == 1
    change(path, "UPDATE answers SET used = used - 7200 WHERE id = 1")
    student(QUESTIONS)
    ((first,), (second,), _) = change(path, "SELECT used FROM answers ORDER BY id")
    assert first > second


def test_cache_bound_that_was_lowered_is_kept_to(path):
    cached(path, Echo(size=2000))(batch(0, 2000))
    assert size(path) > 3 * 2**20
    student = cached(path, Echo(size=2000), max_mb=1)
    student(batch(1))
    assert size(path) <= 2**20
    student(batch(1))
    assert student.hits == 40


def test_cache_call_larger_than_the_bound_is_answered(path):
    student = cached(path, Echo(size=2000), max_mb=1)
    assert student(batch(0, 2000)) == Echo(size=2000)(batch(0, 2000))
    assert size(path) <= 2**20


# ---- threads and processes


def test_cache_threads_share_one_file(path):
    student = cached(path)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: student(MANY), range(16)):
            assert found == Echo()(MANY)
    assert student.hits + student.misses == 16 * 800 and student.hits >= 8 * 800


def _run_at_once(path, barrier, queue, number):
    barrier.wait(60)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        student = cached(path)
        questions = MANY[number % 4 :: 4] + [
            (f"Own {number} {i}", ["t"]) for i in range(9)
        ]
        right = all(
            student(questions[at : at + 5]) == Echo()(questions[at : at + 5])
            for at in range(0, len(questions), 5)
        )
    queue.put((right, [str(w.message) for w in told]))


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)
def test_cache_processes_that_begin_one_file_at_once(path, method):
    context = multiprocessing.get_context(method)
    n = 8 if method == "fork" else 2
    barrier, queue = context.Barrier(n), context.Queue()
    processes = [
        context.Process(target=_run_at_once, args=(path, barrier, queue, number))
        for number in range(n)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        assert queue.get(timeout=60) == (True, [])
    for process in processes:
        process.join(30)
    assert change(path, "PRAGMA integrity_check") == [("ok",)]
    assert change(path, "PRAGMA journal_mode") == [("wal",)]
    expected = sum(200 for _ in range(min(n, 4))) + 9 * n
    assert change(path, "SELECT count(*) FROM answers") == [(expected,)]


@pytest.mark.parametrize("damage", ["web page", "truncated"])
def test_cache_processes_that_find_one_damaged_file_at_once(path, damage):
    cached(path)(MANY)
    FILES[damage](path)
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(6), context.Queue()
    processes = [
        context.Process(target=_run_at_once, args=(path, barrier, queue, number))
        for number in range(6)
    ]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert all(right for right, _ in found)
    told = [message for _, messages in found for message in messages]
    assert len(told) == 1 and "U105" in told[0]  # by one, and one file only
    assert len(list(path.parent.glob("*.damaged-*"))) == 1
    assert change(path, "SELECT count(*) FROM answers") == [(800 + 9 * 6,)]


def test_cache_in_a_child_opens_its_own_connection(path):
    student = cached(path)
    student(QUESTIONS)
    parents = student._store.database._connection

    def work():
        fresh = student._store.database._connection is None
        right = student(QUESTIONS + MANY) == Echo()(QUESTIONS + MANY)
        return fresh and right and student._store.database._connection is not parents

    with student._store.database.lock:  # as if a thread held it when the process forks
        assert in_child(work) == (True, [])
    assert student(MANY) == Echo()(MANY)
    assert (student.hits, student.misses) == (800, 3)
    assert change(path, "PRAGMA integrity_check") == [("ok",)]


def test_cache_is_pickled_without_what_is_open(path):
    student = cached(path, max_mb=5)
    student(QUESTIONS)
    data = pickle.dumps(student)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert (copy.path, copy.max_mb, copy.hits, copy.misses) == (str(path), 5, 0, 0)
    assert copy(QUESTIONS) == Echo()(QUESTIONS) and copy.hits == 3


def passages(number):
    return [(f"Passage {number} {i}", ["t"]) for i in range(5)]


def _ask_for_ever(path, pipe):
    student = cached(path)
    for number in range(10**6):
        student(passages(number))
        pipe.send(number)


def test_cache_that_is_killed_has_all_that_was_returned(path):
    context = multiprocessing.get_context("fork")
    for delay in (0.01, 0.05, 0.1, 0.2):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_ask_for_ever, args=(path, writer))
        process.start()
        writer.close()
        last = reader.recv()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(EOFError):
            while True:
                last = reader.recv()
        process.join(30)
        student = cached(path)
        with no_warning():
            for number in range(last + 1):
                student(passages(number))
        assert student.misses == 0
        assert change(path, "PRAGMA integrity_check") == [("ok",)]


def test_cache_interrupted_in_a_transaction_leaves_none_open(path, monkeypatch):
    student = cached(path, max_mb=1)
    student(QUESTIONS)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "_evict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        student(MANY)
    monkeypatch.undo()
    assert not student._store.database._connection.in_transaction
    assert change(path, "SELECT count(*) FROM answers") == [(3,)]
    assert student(MANY) == Echo()(MANY)


# ---- in a pipeline


def make_nlp(path, labels, student="test.EchoStudent.v1", **inner):
    nlp = spacy.blank("en")
    config = {
        "@misc": "spacy-uniner.CachedStudent.v1",
        "path": str(path),
        "max_mb": 64,
        "student": {"@misc": student, **inner},
    }
    nlp.add_pipe("uniner", config={"labels": labels, "student": config})
    return nlp


def test_cache_in_a_pipeline_that_is_saved_and_loaded(path, tmp_path):
    nlp = make_nlp(path, ["person"])
    assert [e.text for e in nlp(ADA).ents] == ["Ada"]
    nlp.to_disk(tmp_path / "saved")
    again = spacy.load(tmp_path / "saved")
    assert [e.text for e in again(ADA).ents] == ["Ada"]
    student = again.get_pipe("uniner").student
    assert isinstance(student, CachedStudent) and student.max_mb == 64
    assert (student.hits, student.misses) == (1, 0)
    assert again.config["components"]["uniner"]["student"]["path"] == str(path)
    copy = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert [e.text for e in copy(ADA).ents] == ["Ada"]
    assert not list((tmp_path / "saved").rglob("*.sqlite"))


def test_cache_settings_are_checked_by_the_config(path):
    for wrong in ({"max_mb": "many"}, {"path": None}, {"unknown": 1}):
        with pytest.raises(ValueError):
            config = {
                "@misc": "spacy-uniner.CachedStudent.v1",
                "path": str(path),
                "student": {"@misc": "test.EchoStudent.v1"},
                **wrong,
            }
            spacy.blank("en").add_pipe("uniner", config={"student": config})


def test_cache_answers_without_the_weights(path):
    """A second run reads the checkpoint's files, but loads none."""
    labels = ["person", "city"]
    local = {"student": "spacy-uniner.LocalStudent.v1", "dtype": "float32"}
    first = make_nlp(path, labels, **local)("Ada Byron met Charles in London.")
    nlp = make_nlp(path, labels, **local)
    doc = nlp("Ada Byron met Charles in London.")
    assert doc.to_json() == first.to_json() and doc.ents
    scores = [d.spans["uniner"].attrs["scores"] for d in (first, doc)]
    assert scores[0] == scores[1]
    student = nlp.get_pipe("uniner").student
    assert (student.hits, student.misses) == (2, 0)
    assert student.student._model is None


IN_PROCESSES = """
import multiprocessing, sys
import spacy
sys.path.insert(0, sys.argv[3])
from test_cache import make_nlp

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    nlp = make_nlp(sys.argv[1], ["person"], "spacy-uniner.LocalStudent.v1")
    texts = [f"Ada Byron wrote to Charles {i}." for i in range(12)]
    runs = []
    for _ in range(2):
        docs = list(nlp.pipe(texts, n_process=2, batch_size=3))
        runs.append([[e.text for e in doc.ents] for doc in docs])
        docs = list(nlp.pipe(texts))  # from disk, here: nothing is loaded
        runs.append([[e.text for e in doc.ents] for doc in docs])
    student = nlp.get_pipe("uniner").student
    print(len(runs[0]), all(run == runs[0] for run in runs), student.hits, student.misses)
"""


def test_cache_in_several_processes_of_a_pipeline(path):
    texts = [f"Ada {i} wrote." for i in range(12)]
    nlp = make_nlp(path, ["person"])
    nlp("Eve slept.")  # the file is open when the processes begin
    for _ in range(2):
        docs = list(nlp.pipe(texts, n_process=2, batch_size=3))
        assert [[e.text for e in doc.ents] for doc in docs] == [["Ada"]] * 12
    student = nlp.get_pipe("uniner").student
    assert [doc.ents for doc in nlp.pipe(texts)] and student.hits == 12
    assert change(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_cache_in_several_processes_with_a_local_student(path, tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(IN_PROCESSES))
    folder = str(Path(__file__).parent)
    command = [sys.executable, str(script), str(path), method, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["12", "True", "24", "0"], done.stderr[-2000:]


# ---- the identity of a local student

CHECKPOINT = find_checkpoint("mini")


@pytest.mark.parametrize(
    "settings",
    [
        {"template": "uniner"},
        {"dataset": "news"},
        {"dtype": "float16"},
        {"empty_bound": 0.123},
        {"constrained": False},
        {"max_new_tokens": 99},
        {"calibration": Calibration(0.321)},
    ],
)
def test_identity_changes_with_what_answers_depend_on(settings):
    same = LocalStudent(CHECKPOINT).identity
    assert LocalStudent(CHECKPOINT).identity == same
    assert LocalStudent(CHECKPOINT, **settings).identity != same


@pytest.mark.parametrize(
    "settings", [{"device": "cpu"}, {"tokens_per_batch": 9}, {"max_passage_tokens": 9}]
)
def test_identity_stays_with_what_they_do_not_depend_on(settings):
    base = {"device": "cpu", "dtype": "float32"}
    found = LocalStudent(CHECKPOINT, **{**base, **settings}).identity
    assert found == LocalStudent(CHECKPOINT, **base).identity


@pytest.mark.parametrize(
    "file,changes",
    [
        ("model.safetensors", True),
        ("tokenizer.json", True),
        ("config.json", True),
        ("README.md", False),
        ("training.json", False),
    ],
)
def test_identity_is_of_files_not_of_names(tmp_path, file, changes):
    shutil.copytree(SHIPPED, tmp_path / "copy")
    same = LocalStudent(find_checkpoint(str(tmp_path / "copy")))
    before = same.identity
    assert before == LocalStudent(CHECKPOINT).identity
    with (tmp_path / "copy" / file).open("ab") as out:
        out.write(b"\n")
    assert same.identity == before  # of what it was: once per student
    assert (pickle.loads(pickle.dumps(same)).identity != before) == changes
    again = LocalStudent(find_checkpoint(str(tmp_path / "copy")))
    assert (again.identity != before) == changes


def test_identity_loads_nothing():
    student = LocalStudent(CHECKPOINT)
    assert student.identity and student._model is None and student._coder is None


def test_identity_follows_a_setting_that_is_changed():
    student = LocalStudent(CHECKPOINT)
    before = student.identity
    student.empty_bound = 0.9
    assert student.identity != before
