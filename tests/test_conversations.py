"""From a teacher's answers to conversations: reading, cleaning, negatives, turns."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.cleaning import Cleaning, canonical, clean_answer, is_latin, read_merges
from training.files import InputError, Journal, alone, read_rows, writing
from training.labelled import parse_source
from training.mixture import Mixing, Mixture
from training.negatives import STRATEGIES, Negatives, Types, WordNet
from training.questions import Sampling, TypeNames, ask
from training.sets import Labelled, read_set
from training.shelf import Shelf
from training.statistics import describe, to_markdown
from training.tuples import read_tuples
from training.turns import from_conversation, read_conversations, to_conversation

ROOT = Path(__file__).parent.parent
PASSAGES = [
    json.loads(line)
    for line in (ROOT / "tests" / "data" / "passages.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize(
    "text,pairs,status",
    [
        ('[("Ada Byron", "person"), ("London", "city")]', 2, "ok"),
        ("[('Ada', 'person'), ('O'Brien', 'person')]", 2, "ok"),
        ('["Ada", "person"]', 0, "unreadable"),
        ('[["Ada", "person"], ["London", "city"]]', 2, "ok"),
        ('[{"entity": "Ada", "type": "person"}]', 1, "ok"),
        ('[{"type": "person", "entity": "Ada"}]', 1, "ok"),
        ('Here you are:\n```\n[("Ada", "person")]\n```\nAnything else?', 1, "ok"),
        ('[("Ada", "person"), ("Lond', 1, "truncated"),
        ('[("Ada", "person"), ("London",', 1, "truncated"),
        ("[]", 0, "ok"),
        ("There are no entities.", 0, "unreadable"),
        ("<html>502 Bad Gateway</html>", 0, "unreadable"),
        ('[("a", "b", "c")]', 0, "unreadable"),
        ('[("say \\"hi\\"", "phrase"), ("it\\\'s", "word")]', 2, "ok"),
        ('By [1] and [2]: [("Ada", "person")]', 1, "ok"),
        ('[("Ada", "person")]\nand [("London", "city")]', 2, "ok"),
        ('[("Ada", ["person", "scientist"])]', 2, "ok"),
        ('[{"text": "Ada", "start": 0, "end": 3, "label": "person"}]', 1, "ok"),
        ('[{"type": "person", "value": "Ada"}]', 1, "ok"),
        (str([("Ada\nByron", "x"), ("C:\\x", "path"), ("a\xa0b", "y")]), 3, "ok"),
        ('[("f(x)", "function [of x]")]', 1, "ok"),
        ("__import__('os').system('true')", 0, "unreadable"),
        ("[" * 100_000, 0, "truncated"),
        ("[" + '("a", "b"), ' * 10_000 + "]", 1000, "truncated"),
    ],
)
def test_tuples_of_every_spelling_are_read(text, pairs, status):
    found = read_tuples(text)
    assert (len(found.pairs), found.status) == (pairs, status)


@given(st.text(max_size=200))
def test_tuples_never_raise(text):
    read_tuples("[" + text)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=5))
def test_tuples_written_as_json_read_back(pairs):
    wanted = tuple((m.strip(), t.strip()) for m, t in pairs)
    if all(m and t for m, t in wanted):
        assert read_tuples(json.dumps(pairs)).pairs == wanted


ANSWER = {
    "text": "Ada  Byron of Zürich met 田中 and Mr. O’Neil.",
    "entities": [
        ["Ada Byron", "Person "],
        ["ada  byron", "person"],
        ["Zürich", "CITY"],
        ["Zürich", "misc"],
        ["田中", "person"],
        ["Charles Babbage", "person"],
        ["O’Neil", "family_name", "person"],
        [3, "number"],
    ],
}


def test_cleaning_drops_repairs_and_counts():
    counts = Counter()
    row = clean_answer(ANSWER, Cleaning(), counts)
    assert row.mentions == {
        "person": ["Ada  Byron", "O’Neil"],
        "city": ["Zürich"],
        "family name": ["O’Neil"],
    }
    assert counts["repaired"] == 2 and counts["named twice"] == 1
    assert counts["dropped: not in the passage"] == 1
    assert counts["dropped: not English"] == 1
    assert counts["dropped: vague type"] == 1
    assert counts["dropped: no mention"] == 1
    assert counts["mentions"] == 4


@pytest.mark.parametrize("status", ["unreadable", "filtered", "too_long"])
def test_cleaning_drops_answers_that_are_none(status):
    counts = Counter()
    row = {"text": "x", "entities": [], "status": status}
    assert clean_answer(row, Cleaning(), counts) is None
    assert counts[f"answer dropped: {status}"] == 1


def test_cleaning_reads_what_the_teacher_wrote():
    row = {"text": "Ada wrote.", "raw": '[("Ada", "Person")]'}
    assert clean_answer(row, Cleaning(), Counter()).mentions == {"person": ["Ada"]}


def test_cleaning_merges_types(tmp_path):
    merges = tmp_path / "merge.jsonl"
    merges.write_text('{"type": "Human", "merge_into": "person"}\n')
    cleaning = Cleaning(merge=read_merges(merges))
    row = {"text": "Ada", "entities": [["Ada", "human"]]}
    assert clean_answer(row, cleaning, Counter()).mentions == {"person": ["Ada"]}
    merges.write_text(
        '{"type": "a", "merge_into": "b"}\n{"type": "b", "merge_into": "c"}\n'
    )
    with pytest.raises(InputError, match="also merges"):
        read_merges(merges)


@pytest.mark.parametrize(
    "text,latin",
    [("β-catenin", True), ("田中", False), ("Москва", False), ("µ", True), ("3", True)],
)
def test_cleaning_knows_latin_letters(text, latin):
    assert is_latin(text) == latin


def test_canonical_types():
    assert canonical(' "Medical_Condition". ') == "medical condition"


def types_of(rows):
    types = Types()
    for row in rows:
        types.add(row)
    return types


def test_frequency_negatives_follow_the_frequencies():
    rng = random.Random(0)
    names = [f"kind{chr(97 + i)}" for i in range(20)]
    counts = {name: 1 + i * i for i, name in enumerate(names)}
    types = types_of({name: ["x"]} for name, n in counts.items() for _ in range(n))
    check_frequencies(types)
    uniform = Negatives(types, "uniform")
    even = Counter(uniform.draw([], 1, rng)[0] for _ in range(20_000))
    chi = sum((even[name] - 1000) ** 2 / 1000 for name in names)
    assert chi < 43.8  # p = 0.001 with 19 degrees of freedom


def test_negatives_of_every_strategy_are_absent_and_no_other_name():
    rows = [row["queries"] for row in PASSAGES]
    types = types_of(rows)
    for strategy in STRATEGIES:
        negatives = Negatives(types, strategy)
        rng = random.Random(1)
        n_drawn = 0
        for row in rows:
            present = [kind for kind, found in row.items() if found]
            drawn = negatives.draw(present, 4, rng)
            n_drawn += len(drawn)
            assert len(set(drawn)) == len(drawn)
            assert not any(negatives.is_kin(a, b) for a in drawn for b in present)
        assert (n_drawn == 0) == (strategy == "none")


def test_hard_negatives_are_near():
    """Cities and dates come together; the far type is much more frequent."""
    rows = [{"city": ["x"], "date": ["y"]}] * 20 + [{"enzyme": ["z"]}] * 200
    hard = Negatives(types_of(rows), "hard")
    drawn = Counter(hard.draw(["city"], 1, random.Random(s))[0] for s in range(200))
    assert drawn["date"] > 150
    with pytest.raises(InputError, match="none, uniform, frequency, hard"):
        Negatives(types_of(rows), "harder")


def test_wordnet_tells_siblings_from_kinds():
    wordnet = WordNet(
        [
            {"synonyms": ["municipality"], "hypernyms": []},
            {"synonyms": ["city", "metropolis"], "hypernyms": [["municipality"]]},
            {"synonyms": ["village"], "hypernyms": [["municipality"]]},
        ]
    )
    assert wordnet.siblings("city") == ["village"]
    assert wordnet.is_related("city", "metropolis")
    assert wordnet.is_related("municipality", "city")
    assert not wordnet.is_related("city", "village")


def test_wordnet_keeps_senses_apart():
    """Bank (of a river) is a slope, bank (of money) an institution; no path leads on
    from one to the other."""
    rows = [
        (["slope"], ["formation"]),
        (["bank"], ["slope"]),
        (["bank", "depository"], ["institution"]),
        (["institution"], ["organization"]),
        (["school"], ["institution"]),
        (["formation"], []),
        (["organization"], []),
    ]
    wordnet = WordNet(
        {"synonyms": names, "hypernyms": [above] if above else []}
        for names, above in rows
    )
    assert wordnet.is_related("bank", "slope")
    assert wordnet.is_related("bank", "organization")
    assert not wordnet.is_related("slope", "institution")
    assert not wordnet.is_related("formation", "organization")
    assert wordnet.siblings("bank") == ["school"]


@pytest.mark.parametrize(
    "a,b,kin",
    [
        ("cities", "city", True),
        ("glass", "glasses", True),
        ("date of birth", "country of origin", False),
        ("medical condition", "rare medical disorder", True),
        ("bus", "crisis", False),
        ("a person who sings", "a device that is used to cook", False),
    ],
)
def test_types_that_share_a_word_are_kin(a, b, kin):
    assert Negatives(Types()).is_kin(a, b) == kin


def test_questions_never_ask_a_near_name_of_a_present_type_as_absent():
    row = Labelled("x", {"medical condition": ["flu"]})
    types = types_of([{"rare medical disorder": ["x"]}] * 100 + [{"song": ["y"]}])
    negatives = Negatives(types)
    for seed in range(20):
        asked = ask(row, [], negatives, Sampling(), random.Random(seed))
        assert ("rare medical disorder", []) not in asked


@pytest.mark.parametrize("dataset", [None, "wnut17"])
def test_conversations_read_back_equal(dataset, tmp_path):
    for i, row in enumerate(PASSAGES):
        questions = list(row["queries"].items())
        made = to_conversation(str(i), row["text"], questions, dataset=dataset)
        assert from_conversation(json.loads(json.dumps(made))) == (
            row["text"],
            questions,
        )


@pytest.mark.parametrize(
    "turns,problem",
    [
        ([], "no pairs of turns"),
        (["Text: x", "I've read this text.", "What?"], "no pairs of turns"),
        (["x", "I've read this text."], "begins with no text"),
        (["Text: x", "y", "Who?", "[]"], "asks for no type"),
        (["Text: x", "y", "What describes a in the text?", "none"], "no JSON list"),
    ],
)
def test_conversations_that_are_none_are_told(turns, problem):
    row = {"id": "7", "conversations": [{"from": "?", "value": v} for v in turns]}
    with pytest.raises(InputError, match=problem):
        from_conversation(row)


def test_all_types_can_be_asked_together():
    questions = [("person", ["Ada"]), ("city", []), ("date", ["1843"])]
    made = to_conversation("1", "Ada, 1843.", questions, together=True)
    text, asked = from_conversation(made)
    assert asked == [("person, city, date", [["Ada", "person"], ["1843", "date"]])]


def test_shelf_gives_back_what_was_put(tmp_path):
    shelf = Shelf(tmp_path)
    rows = [Labelled(f"ü {i}", {"a": [str(i)]}, bool(i % 2)) for i in range(50)]
    numbers = [shelf.put(row) for row in rows]
    assert [shelf.take(n) for n in reversed(numbers)] == rows[::-1]
    assert shelf.take(shelf.put(rows[3])) == rows[3]
    assert not list(tmp_path.iterdir())  # gone with the process, however it ends


@pytest.mark.parametrize(
    "line,problem",
    [
        ("many answers", "LIMIT PATH SPLIT"),
        ("0 answers", "LIMIT PATH SPLIT"),
        ("10 answers train partal", "LIMIT PATH SPLIT"),
        ("10", "LIMIT PATH SPLIT"),
        ("10 nowhere train", "nothing at"),
    ],
)
def test_sources_that_are_none_are_told(line, problem, tmp_path):
    with pytest.raises(InputError, match=problem):
        parse_source("x", line, tmp_path, tmp_path / "answers.jsonl")


def test_statistics_as_the_paper_prints_them():
    rows = [Labelled("x", {"person": ["a", "b"], "none here": []})] * 3
    rows += [Labelled("x", {f"kind {i}": ["c"]}) for i in range(199)]
    found = describe(rows)
    assert (found["passages"], found["entities"], found["types"]) == (202, 205, 200)
    assert [band["types"] for band in found["bands"]] == [2, 18, 180]
    assert found["bands"][0]["examples"][0] == "person"
    assert "| 0% to 1% | 2 | 3.4% | person" in to_markdown(found)
    with pytest.raises(InputError):
        describe([])


def write_answers(path, copies=1):
    """Answers as a teacher gives them, of the test passages."""
    with path.open("w", encoding="utf8") as out:
        for n in range(copies):
            for i, row in enumerate(PASSAGES):
                entities = [[m, k] for k, ms in row["queries"].items() for m in ms]
                text = row["text"] + " " * n
                line = {"id": f"{n}-{i}", "text": text, "entities": entities}
                out.write(json.dumps({**line, "status": "ok"}) + "\n")


def make(folder, out="out.jsonl", *more, **variables):
    """Make conversations of the answers in a folder."""
    arguments = ["--config=training/configs/distill.cfg"]
    arguments += [f"--answers={folder / 'answers.jsonl'}", f"--out={folder / out}"]
    arguments += [f"--dev={folder / 'dev.jsonl'}", *more]
    command = [sys.executable, "-m", "training.conversations", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "suffix,strategy", [(".jsonl", "hard"), (".json", "frequency")]
)
def test_conversations_script_runs_and_is_the_same_again(tmp_path, suffix, strategy):
    write_answers(tmp_path / "answers.jsonl", copies=3)
    made = []
    for name, seed in (("a", "1"), ("b", "2")):
        out = tmp_path / f"{name}{suffix}"
        setting = f'conversations.sampling.strategy="{strategy}"'
        done = make(tmp_path, out.name, "--set", setting, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        made.append(out.read_bytes())
    assert made[0] == made[1]
    texts = {row["text"] for row in PASSAGES}
    n_empty = 0
    for row in read_conversations(out):
        text, questions = from_conversation(row)
        assert text.rstrip() in texts
        assert all(mention in text for _, found in questions for mention in found)
        n_empty += sum(not found for _, found in questions)
    assert n_empty > len(PASSAGES)
    report = json.loads((tmp_path / "b.report.json").read_text())
    assert report["teacher"]["answers"] == 3 * len(PASSAGES)


@pytest.mark.parametrize(
    "content,problem",
    [
        ("", "no passage with a mention"),
        ('{"id": "1", "text": "Ada", "entities": []}\n', "no passage with a mention"),
        ("torn {", "no passage with a mention"),
    ],
)
def test_conversations_script_tells_what_is_wrong(tmp_path, content, problem):
    (tmp_path / "answers.jsonl").write_text(content)
    done = make(tmp_path)
    assert done.returncode == 1 and problem in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_mixture_caps_sets_and_holds_out_by_text(tmp_path):
    rows, mixture = mix(tmp_path, "20 answers", holdout=0.3, epochs=2)
    assert len(rows) == 40
    held = {from_conversation(row)[0] for row in mixture.held_out()}
    assert len(held) == 7 and not held & {from_conversation(row)[0] for row in rows}
    counts = mixture.sources[0].counts
    assert counts["rows"] == counts["marked"] + counts["blank"] + counts["held out"]
    assert counts["written"] == 40


def mix(tmp_path, line, *, holdout=0.0, epochs=1, **sampling):
    """Conversations of the test passages, five times."""
    write_answers(tmp_path / "answers.jsonl", copies=5)
    mixing = Mixing(0, epochs, "t", dev_rows=7, holdout=holdout)
    names = TypeNames([], Sampling(**sampling))
    mixture = Mixture(mixing, names=names, wordnet=WordNet(()), folder=tmp_path)
    source = parse_source("t", line, tmp_path, tmp_path / "answers.jsonl")
    mixture.add(source, Cleaning(), None)
    return list(mixture.conversations()), mixture


@pytest.mark.parametrize(
    "line,n",
    [("all answers", 0), ("7000 answers", 0), ("400 answers - repeat", 400)],
)
def test_mixture_repeats_only_where_it_is_told(tmp_path, line, n):
    rows, mixture = mix(tmp_path, line, empty_share=0.0)
    n_marked = mixture.sources[0].counts["marked"]
    assert 0 < n_marked < 400 and len(rows) == (n or n_marked)


def test_mixture_writes_every_template(tmp_path):
    rows, _ = mix(tmp_path, "all answers", lowercased=1.0)
    texts = [from_conversation(row) for row in rows]
    assert all(text.islower() for text, _ in texts)
    assert all(m in text for text, asked in texts for _, ms in asked for m in ms)
    rows, _ = mix(tmp_path, "all answers", together=1.0)
    asked = [from_conversation(row)[1] for row in rows]
    assert all(len(questions) == 1 for questions in asked)
    assert any(len(pair) == 2 for (_, pairs), *_ in asked for pair in pairs)


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError), writing(path) as out:
        out.write("new")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_files_keep_a_second_run_away(tmp_path):
    with alone(tmp_path / "x"):
        with pytest.raises(InputError, match="Another run"):
            with alone(tmp_path / "x"):
                pass


def test_journal_mends_a_torn_end(tmp_path):
    path = tmp_path / "x.jsonl"
    whole = '{"a": 1}\n{"a": 2}\n'
    for torn in ("", '{"a": 3', "x" * 200_000):
        path.write_text(whole + torn)
        journal = Journal(path)
        assert [row["a"] for row in journal.rows()] == [1, 2]
        journal.add({"a": 3})
        journal.close()
        assert path.read_text() == whole + '{"a": 3}\n'


@pytest.mark.parametrize(
    "content,problem",
    [
        (b'{"a": 1}\n{"a"', "line 2: not JSON"),
        (b'{"a": "\xff"}', "line 1: not UTF-8"),
        (b"[1]", "no object with a"),
        (b'{"b": 1}', "no object with a"),
    ],
)
def test_rows_that_cant_be_used_are_told_or_counted(tmp_path, content, problem):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        list(read_rows(path, fields=["a"]))
    faults = Counter()
    list(read_rows(path, fields=["a"], faults=faults))
    assert sum(faults.values()) == 1
    with pytest.raises(InputError, match="no file"):
        list(read_rows(tmp_path / "y.jsonl"))


PILE_NER = sorted((ROOT.parent / "shared" / "data" / "ner").glob("llm_pilener_*"))


def spell(pairs, number):
    """Write pairs as teachers do: as JSON, or as Python; every tenth list is torn."""
    text = json.dumps(pairs) if number % 2 else str([tuple(pair) for pair in pairs])
    return text[: len(text) // 2] if number % 10 == 9 else text


@pytest.mark.skipif(not PILE_NER, reason="parts of Pile-NER do not lie beside")
@pytest.mark.parametrize("folder", PILE_NER, ids=lambda folder: folder.name)
def test_parts_of_pile_ner_go_all_the_way(folder, tmp_path):
    counts, types, n_told, n_torn = Counter(), Types(), 0, 0
    rows = []
    for number, row in enumerate(read_set(folder, "train")):
        pairs = [[m, kind] for kind, found in row.mentions.items() for m in found]
        answer = {"text": row.text, "raw": spell(pairs, number)}
        is_torn = number % 10 == 9
        cleaned = clean_answer(answer, Cleaning(), Counter() if is_torn else counts)
        n_told += 0 if is_torn else len(pairs)
        n_torn += is_torn and (cleaned is None or cleaned.cut)
        if cleaned is not None and any(cleaned.mentions.values()):
            rows.append(cleaned)
            types.add(cleaned.mentions)
    lost = sum(n for reason, n in counts.items() if reason.startswith("dropped"))
    # of those that were not torn, every mention told is kept, or counted
    assert counts["mentions"] + counts["named twice"] + lost == n_told
    assert counts["mentions"] > 0.95 * n_told
    assert n_torn and describe(rows)["types"] == len(types.passages)
    for strategy in STRATEGIES[1:]:
        negatives = Negatives(types, strategy)
        for number, row in enumerate(rows):
            asked = ask(
                row, [], negatives, Sampling(strategy=strategy), random.Random(number)
            )
            made = json.loads(json.dumps(to_conversation("x", row.text, asked)))
            assert from_conversation(made) == (row.text, asked)
    check_frequencies(types)


def check_frequencies(types, n_draws=30_000):
    """Pearson's chi-square; types expected fewer than 20 times are taken together."""
    negatives, rng = Negatives(types), random.Random(0)
    drawn = Counter(negatives.draw([], 1, rng)[0] for _ in range(n_draws))
    total = sum(types.passages.values())
    expected = {kind: n_draws * n / total for kind, n in types.passages.items()}
    cells = [(drawn[k], e) for k, e in expected.items() if e >= 20]
    rare = [(drawn[k], e) for k, e in expected.items() if e < 20]
    cells += [tuple(map(sum, zip(*rare)))] if rare else []
    freedom = len(cells) - 1
    chi = sum((n - e) ** 2 / e for n, e in cells)
    # Wilson and Hilferty's approximation of the quantile at p = 0.001
    limit = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert chi < limit


def test_labelled_passages_of_the_project_are_a_source(tmp_path):
    source = parse_source(
        "written", "all ./assets/written_open.jsonl", tmp_path, tmp_path
    )
    rows = list(source.rows(Cleaning(), Counter()))
    assert len(rows) == 855 and any(not found for found in rows[0].mentions.values())


@pytest.mark.parametrize(
    "row,reason",
    [
        ({"text": 5, "entities": [["a", "b"]]}, "answer dropped: no text"),
        ({"text": "Ada \ud83d", "entities": []}, "answer dropped: no text"),
        ({"text": "Ada", "entities": {"Ada": "person"}}, "answer dropped: no list"),
        ({"text": "Ada", "entities": [["Ada", "x\ud800y"]]}, "dropped: no type"),
        ({"text": "Ada", "entities": [["Ada", "人物"]]}, "dropped: type not English"),
        ({"text": "水 Ada", "entities": [["水", "liquid"]]}, "dropped: not English"),
        ({"text": "Ada", "raw": '[("Ada", "x"), ("q", "r", "s")]'}, "dropped: no pair"),
        ({"text": "Ada", "raw": "I can't."}, "answer dropped: unreadable"),
    ],
)
def test_cleaning_counts_whatever_it_drops(row, reason, tmp_path):
    counts = Counter()
    cleaned = clean_answer(row, Cleaning(), counts)
    assert counts[reason] == 1
    if cleaned is not None:
        shelf = Shelf(tmp_path)
        assert shelf.take(shelf.put(cleaned)) == cleaned


def test_types_that_may_be_there_are_never_asked_in_vain():
    raw = '[("Ada Lovelace", "inventor"), ("London", "city"), ("a lo'
    types = types_of([{"inventor": ["x"]}, {"composer": ["y"]}] * 20)
    cut = clean_answer({"text": "London.", "raw": raw}, Cleaning(), Counter())
    whole = clean_answer(
        {"text": "London.", "raw": raw[:-7] + "]"}, Cleaning(), Counter()
    )
    assert cut.cut and whole.doubtful == ["inventor"]
    for seed in range(30):
        rng = random.Random(seed)
        assert ask(cut, [], Negatives(types), Sampling(), rng) == [("city", ["London"])]
        asked = dict(ask(whole, [], Negatives(types), Sampling(), rng))
        assert "inventor" not in asked and "composer" in asked


@pytest.mark.parametrize(
    "override,problem",
    [
        ("conversations.epochs='two'", "sets nothing"),
        ('conversations.epochs="two"', "epochs must be int"),
        ("conversations.epochs=0", "at least 1"),
        ("conversations.sampling.stratgy=1", "no setting 'stratgy'"),
        ('conversations.sampling.strategy="harder"', "none, uniform, frequency, hard"),
        ("conversations.cleaning.english=3", "english must be bool"),
    ],
)
def test_conversations_script_checks_settings_first(tmp_path, override, problem):
    (tmp_path / "answers.jsonl").write_text("never read")
    both = ("--set", "conversations.seed=1", "--set", override)
    done = make(tmp_path, "out.jsonl", *both)
    assert done.returncode == 1 and problem in done.stderr, done.stderr


def test_conversations_script_never_writes_over_what_it_reads(tmp_path):
    write_answers(tmp_path / "answers.jsonl")
    same = tmp_path / "answers.jsonl"
    done = make(tmp_path, same.name)
    assert done.returncode == 1 and "three different files" in done.stderr
    assert len(same.read_text().splitlines()) == len(PASSAGES)


def test_torn_archives_are_told(tmp_path):
    import gzip

    path = tmp_path / "x.jsonl.gz"
    lines = [json.dumps({"a": random.Random(i).random()}) for i in range(5000)]
    path.write_bytes(gzip.compress("\n".join(lines).encode())[:-2000])
    with pytest.raises(InputError, match="ended before"):
        list(read_rows(path, faults=Counter()))
