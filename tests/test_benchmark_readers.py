"""Readers of the benchmark's raw files: small files of each format, malformed ones, and
the published files themselves where a mirror of them is at hand."""

import gzip
import json
import os
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_uniner.benchmark.fetching import find_files
from spacy_uniner.benchmark.readers import read_part, readers, split_files, split_rows
from spacy_uniner.benchmark.registry import load_sets

ROOT = Path(__file__).parents[1]
MIRROR = Path(
    os.environ.get("SPACY_UNINER_MIRROR", ROOT.parent / "shared/data/mirror")
).resolve()
SETS = load_sets()


def write(folder, files):
    """Write files, and give their paths in order."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = text.encode("utf8")
        path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return [folder / name for name in files]


def read(folder, reader, files, **settings):
    """Read files, and give each passage with its mentions as (string, label)."""
    make = readers.get(f"spacy-uniner.{reader}.v1")
    rows = list(make(**settings)(write(folder, files)))
    return [(r.text, [(r.text[a:b], label) for a, b, label in r.spans]) for r in rows]


@pytest.mark.parametrize(
    "tags,expected",
    [
        ("B-X I-X B-X O", ["a b", "c"]),  # BIO
        ("I-X I-X B-X O", ["a b", "c"]),  # IOB1: B- only between neighbours
        ("I-X I-Y O I-X", ["a", "b", "d"]),  # IO
        ("B-X E-X S-X S-X", ["a b", "c", "d"]),  # IOBES
        ("B-X L-X U-X O", ["a b", "c"]),  # BILOU
        ("E-X I-X O O", ["a", "b"]),  # an end without a beginning is a mention
        ("B-X O I-X I-X", ["a", "c d"]),
    ],
)
def test_readers_conll_knows_dialects(tmp_path, tags, expected):
    lines = "\n".join(f"{w}\t{t}" for w, t in zip("abcd", tags.split()))
    ((text, found),) = read(tmp_path, "conll", {"a.tsv": lines})
    assert text == "a b c d"
    assert [mention for mention, _ in found] == expected


@pytest.mark.parametrize(
    "lines,settings,expected",
    [
        ("a NN O\nb NN B-X\n\nc NN O\n", {}, ["a b", "c"]),  # blanks; last column
        ("a\tO\ta\tX\nb\tB-X\tb\tY\n", {"tag": 1}, ["a b"]),
        ("0\ta\tO\n1\tb\tB-X\n", {"token": 1}, ["a b"]),
        ("-DOCSTART- O\n\na O\n\nb O\n", {}, ["a", "b"]),
        ("-DOCSTART- O\n\na O\n\nb O\n", {"row": "document"}, ["a b"]),
        ("# id 1\na\tO\n", {"comment": "# "}, ["a"]),
        ("ID\tO\n:\tO\n\na\tO\n", {"headers": ["ID"]}, ["a"]),
        ('",",O\n,O\na,O\nb,B-X\n', {"separator": ","}, [",", "a b"]),
        ("a\tP\nb\tB-X\n", {"ignored": ["P"]}, ["a b"]),
        ("\ufeffa\tO\r\nb\u2028\tO\r\n", {}, ["a b\u2028"]),
    ],
)
def test_readers_conll_settings(tmp_path, lines, settings, expected):
    found = read(tmp_path, "conll", {"a.txt": lines}, **settings)
    assert [text for text, _ in found] == expected


def test_readers_conll_bare_labels(tmp_path):
    lines = "a\tart-film\nb\tart-film\nc\tO\nd\tother-god\n"
    found = read(tmp_path, "conll", {"a.txt": lines}, bare=True)
    assert found == [("a b c d", [("a b", "art-film"), ("d", "other-god")])]


def test_readers_conll_layers_nest(tmp_path):
    files = {"x": "a B-X\nb I-X\n\nc O\n", "y": "a O\nb B-Y\n\nc O\n"}
    found = read(tmp_path, "conll-layers", files)
    assert found == [("a b", [("a b", "X"), ("b", "Y")]), ("c", [])]


PUBTATOR = """1|t|Of p53. {title}
1|a|It binds, e.g. MDM2. So it does.
1\t3\t6\tp53\tGene\t7157
1\t{start}\t{end}\tMDM2\tGene\t4193
1\tAssociation\t7157\t4193\tNovel

"""


def test_readers_pubtator_splits_sentences(tmp_path):
    text = PUBTATOR.format(title="A title.", start=32, end=36)
    assert read(tmp_path, "pubtator", {"a.txt": text}) == [
        ("Of p53.", [("p53", "Gene")]),
        ("A title.", []),
        ("It binds, e.g. MDM2.", [("MDM2", "Gene")]),
        ("So it does.", []),
    ]
    whole = read(tmp_path, "pubtator", {"a.txt": text}, sentences=False)
    assert [text for text, _ in whole] == [
        "Of p53. A title.",
        "It binds, e.g. MDM2. So it does.",
    ]


BRAT = (
    "T1\tTool_Usage 4 7\tR 4\nT2\tTool 10 12;14 15\tOf x\nE1\tTool:T1\n#1\tNote T1\tx\n"
)


def test_readers_brat_reads_lines(tmp_path):
    files = {"d/a.ann": BRAT, "d/a.txt": "Use R 4. Of it.\n\nMore.\n"}
    whole = read(tmp_path, "brat", files)
    assert whole == [("Use R 4. Of it.", [("R 4", "Tool_Usage")]), ("More.", [])]
    settings = {"sentences": True, "dropped_suffixes": ["_Usage"]}
    found = read(tmp_path, "brat", files, **settings)
    assert found == [("Use R 4.", [("R 4", "Tool")]), ("Of it.", []), ("More.", [])]


@pytest.mark.parametrize("form", ["jsonl", "json", "jsonl.gz"])
def test_readers_offsets(tmp_path, form):
    rows = [
        {"text": "Ada left", "spans": [[0, 3, "person"]]},
        {"tokens": ["by", "Ada"], "spans": [{"start": 1, "end": 2, "label": "person"}]},
    ]
    lines = json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows))
    found = read(tmp_path, "offsets", {f"a.{form}": lines})
    expected = [("Ada", "person")]
    assert found == [("Ada left", expected), ("by Ada", expected)]


def test_readers_tags(tmp_path):
    rows = [
        {"language": "en", "tokens": ["Ada", "left"], "tags": [1, 0]},
        {"language": "de", "tokens": ["Ada", "ging"], "tags": [1, 0]},
    ]
    lines = "\n".join(map(json.dumps, rows))
    settings = {"tags": "tags", "names": ["O", "B-X"], "where": {"language": "en"}}
    found = read(tmp_path, "tags", {"a.json": lines}, **settings)
    assert found == [("Ada left", [("Ada", "X")])]


def test_readers_gliner_mends_places(tmp_path):
    entities = [{"name": "art", "type": "genre", "pos": [1, 4]}]  # within "party"
    rows = [{"sentence": "party art films", "entities": entities}]
    make = readers.get("spacy-uniner.gliner.v1")
    (row,) = make()(write(tmp_path, {"a.json": json.dumps(rows)}))
    assert row.spans == [(6, 9, "genre")]


def test_readers_csv(tmp_path):
    spans = json.dumps([{"start": 2, "end": 5, "type": "FOOD"}]).replace('"', '""')
    table = f'text,spans\n"1 egg\n","{spans}"\n'
    found = read(tmp_path, "csv", {"a.csv": table}, text="text", spans="spans")
    assert found == [("1 egg\n", [("egg", "FOOD")])]


def test_readers_docbin(tmp_path):
    nlp = spacy.blank("en")
    doc = nlp("Ada Byron left")
    doc.ents = [doc.char_span(0, 9, "person")]
    doc.spans["all"] = [doc.char_span(0, 3, "name"), doc.char_span(0, 9, "person")]
    path = tmp_path / "a.spacy"
    DocBin(docs=[doc], store_user_data=True).to_disk(path)
    make = readers.get("spacy-uniner.docbin.v1")
    assert [row.spans for row in make()([path])] == [[(0, 9, "person")]]
    nested = [[(0, 3, "name"), (0, 9, "person")]]
    assert [row.spans for row in make(spans_key="all")([path])] == nested


def talk(text, entity_type, answer):
    turns = [
        f"Text: {text}",
        "I've read this text.",
        f"What describes {entity_type} in the text?",
        json.dumps(answer),
    ]
    return {"conversations": [{"value": turn} for turn in turns]}


def test_readers_conversations(tmp_path):
    talks = [
        talk("Ada left", "person", ["Ada"]),
        talk("Ada left", "program language", []),
        talk("Ada left", "person", ["Ada"]),  # the same sentence once more
        talk("It rains", "person", []),
    ]
    make = readers.get("spacy-uniner.conversations.v1")
    rows = list(make()(write(tmp_path, {"a.json": json.dumps(talks)})))
    assert [(row.text, row.answers) for row in rows] == [
        ("Ada left", {"person": ["Ada"], "program language": []}),
        ("Ada left", {"person": ["Ada"]}),
        ("It rains", {"person": []}),
    ]


SOFC = {
    "texts/a.txt": "No. Use YSZ.",
    "annotations/sentences/a.csv": "1\t0\t0\t3\n2\t1\t4\t12\n",
    "annotations/entity_types_and_slots/a.csv": "1\t1\t0\t2\tO\tO\n2\t1\t0\t3\tO\tB-s\n"
    "2\t2\t4\t7\tB-MATERIAL\tO\n",
}


@pytest.mark.parametrize(
    "layer,expected", [("types", ("YSZ", "MATERIAL")), ("slots", ("Use", "s"))]
)
def test_readers_sofc(tmp_path, layer, expected):
    assert read(tmp_path, "sofc", SOFC, layer=layer) == [("Use YSZ", [expected])]


def test_readers_finer_parts_by_sentences(tmp_path):
    files = {
        "x_gold_data.csv.gz": "gold_label,gold_token,doc_idx\n1,Ada,0\n2,Byron,0\n"
        "0,left,0\n0,.,0\n5,Acme,0\n",
        "x_input_df.csv.gz": 'doc_idx,text\n0,"Ada Byron left."\n0,Acme\n',
    }
    assert read(tmp_path, "finer", files) == [
        ("Ada Byron left .", [("Ada Byron", "PER")]),
        ("Acme", [("Acme", "ORG")]),
    ]


MALFORMED = [
    ("conll", {"a.txt": "a O\n\nb\n"}, {}, "a.txt", 3),  # no tag
    ("conll", {"a.txt": "a O\nb X\n"}, {}, "a.txt", 2),  # no prefix
    ("conll", {"a.txt": "a\tO\n"}, {"token": 4}, "a.txt", 1),
    ("conll-layers", {"x": "a O\n", "y": "b O\n"}, {}, "x", 1),
    ("pubtator", {"a.txt": "1|t|A\n1|a|B\n1\t2\t9\tB\tGene\t\n"}, {}, "a.txt", 3),
    ("pubtator", {"a.txt": "1|t|A\n1|a|B\nnonsense\n"}, {}, "a.txt", 3),
    ("brat", {"a.txt": "Ada", "a.ann": "T1\tX 0 9\tAda\n"}, {}, "a.ann", 1),
    ("brat", {"a.txt": "Ada", "a.ann": "T1\tX 0 3\tAda\nT2 X\n"}, {}, "a.ann", 2),
    (
        "offsets",
        {"a.jsonl": '{"text": "a", "spans": []}\n{"text":\n'},
        {},
        "a.jsonl",
        2,
    ),
    ("offsets", {"a.jsonl": '{"text": "a", "spans": [[0, 2, "X"]]}'}, {}, "a.jsonl", 1),
    ("offsets", {"a.jsonl": '{"text": "a", "spans": [0]}'}, {}, "a.jsonl", 1),
    ("offsets", {"a.json": '[{"text": "a", "spans": []}, 1]'}, {}, "a.json", 2),
    ("offsets", {"a.json": '[\n{"text": "a"}]'}, {}, "a.json", 1),
    ("tags", {"a.json": '{"tokens": ["a"], "t": []}'}, {"tags": "t"}, "a.json", 1),
    ("gliner", {"a.json": '[{"sentence": "a"}]'}, {}, "a.json", 1),
    ("csv", {"a.csv": "t,s\na,[]\nb,[1\n"}, {"text": "t", "spans": "s"}, "a.csv", 3),
    ("docbin", {"a.spacy": "no DocBin"}, {}, "a.spacy", 1),
    ("conversations", {"a.json": '[{"conversations": []}]'}, {}, "a.json", 1),
    ("sofc", {**SOFC, "annotations/sentences/a.csv": "1\t0\n"}, {}, "a.csv", 1),
    (
        "finer",
        {
            "x_gold_data.csv": "gold_label,gold_token,doc_idx\n0,a,0\n7,b,0\n",
            "x_input_df.csv": "doc_idx,text\n0,a b\n",
        },
        {},
        "x_gold_data.csv",
        3,
    ),
    (
        "finer",
        {
            "x_gold_data.csv": "gold_label,gold_token,doc_idx\n0,a,0\n0,b,0\n",
            "x_input_df.csv": "doc_idx,text\n0,a\n",
        },
        {},
        "x_gold_data.csv",
        3,
    ),
]


@pytest.mark.parametrize("reader,files,settings,name,line", MALFORMED)
def test_readers_name_malformed_lines(tmp_path, reader, files, settings, name, line):
    with pytest.raises(ValueError) as err:
        read(tmp_path, reader, files, **settings)
    assert "[U073]" in str(err.value)
    assert f"line {line} of" in str(err.value)
    assert f"{name}'" in str(err.value)


@pytest.mark.parametrize("reader,name", [("conll", "a.txt"), ("csv", "a.csv")])
def test_readers_name_lines_that_are_not_utf8(tmp_path, reader, name):
    (tmp_path / name).write_bytes(b"a,O\n\xff,O\n")
    settings = {"text": "a", "spans": "b"} if reader == "csv" else {"separator": ","}
    make = readers.get(f"spacy-uniner.{reader}.v1")
    with pytest.raises(ValueError, match=r"U073.*line 2 of .*UTF-8"):
        list(make(**settings)([tmp_path / name]))


@pytest.mark.parametrize("dev,test,sizes", [(2, 3, (5, 2, 3)), (0.05, 0.3, (6, 1, 3))])
def test_readers_split_rows_share_all(dev, test, sizes):
    rows = list("abcdefghij")
    parts = [
        split_rows(rows, part, dev=dev, test=test) for part in ("train", "dev", "test")
    ]
    assert tuple(map(len, parts)) == sizes
    assert sorted(sum(parts, [])) == rows
    assert all(part == sorted(part) for part in parts)  # in their order
    other = split_rows(rows, "test", dev=dev, test=test, seed=1)
    assert other != parts[2]


def test_readers_split_files_keep_documents_whole(tmp_path):
    names = [f"{d}/{n}.{e}" for d in "xy" for n in range(10) for e in ("ann", "txt")]
    paths = [Path(name) for name in names]
    found = split_files(paths, "test", dev=0, test=0.3)
    assert len(found) == 12  # 3 documents of each folder, with 2 files each
    assert {p.with_suffix(".txt") for p in found} == {
        p for p in found if p.suffix == ".txt"
    }


def test_sets_cover_table6():
    """The 43 data sets of the paper, in 49 rows."""
    named = [each for each in SETS.values() if each.dataset]
    assert (len({each.dataset for each in named}), len(named)) == (43, 49)


@pytest.mark.parametrize("name", SETS)
def test_sets_are_complete(name):
    each = SETS[name]
    assert each.domain and each.licence and each.types
    assert each.source.repository or each.source.hub or each.source.get
    assert set(each.left_out) <= set(each.labels)
    settings = {k: v for k, v in each.options.items() if k != "split"}
    readers.get(each.reader)(**settings)


# Passages of train, dev and test, and mentions in all of them. The published files are
# known to hold these; where the paper counts others, the notes of the set say so.
COUNTS = [
    ("AnatEM", 5861, 2118, 3830, 13701),
    ("BioRED", 4300, 1112, 1083, 20419),
    ("JNLPBA", 18534, 1932, 4243, 62831),
    ("SOFC", 568, 135, 173, 4590),
    ("SciERC", 350, 50, 100, 8063),
    ("SoMeSci", 31553, 2698, 13554, 7237),
    ("Stackoverflow-NER", 11269, 3535, 3812, 22448),
    ("WLP", 8581, 2859, 2861, 60642),
    ("bc2gm", 12574, 2519, 5038, 24583),
    ("bc5cdr", 4560, 4581, 4797, 28787),
    ("broad_tweet_corpus", 5338, 2000, 2001, 14885),
    ("conllpp", 14041, 3250, 3453, 35143),
    ("crossner_ai", 100, 350, 431, 3890),
    ("crossner_literature", 100, 400, 416, 4937),
    ("crossner_music", 100, 380, 465, 6663),
    ("crossner_politics", 200, 541, 651, 8995),
    ("crossner_science", 200, 450, 543, 6702),
    ("e_ner", 9625, 1009, 1010, 8821),
    ("ebmnlp", None, 7049, 2064, 20106),
    ("finer_ord", 3262, 402, 1075, 5577),
    ("harveyner", 3967, 1301, 1303, 2604),
    ("mit_movie", 9774, 2442, 2442, 31970),
    ("mit_restaurant", 7659, 1520, 1520, 21663),
    ("ncbi", 5424, 923, 940, 6881),
    ("tasteset", 560, 69, 71, 13362),
    ("uniner_crossner_ai", None, None, 431, 1624),
    ("uniner_crossner_literature", None, None, 416, 2025),
    ("uniner_crossner_music", None, None, 465, 3163),
    ("uniner_crossner_politics", None, None, 650, 3943),
    ("uniner_crossner_science", None, None, 543, 2568),
    ("uniner_mit_restaurant", None, None, 1520, 3150),
    ("wikiann_en", 20000, 10000, 10000, 56035),
    ("wikineural_en", None, 11590, 11597, 39296),
    ("wnut17", 3394, 1009, 1287, 3890),
]


@pytest.mark.skipif(not MIRROR.is_dir(), reason="needs a mirror of the raw files")
@pytest.mark.parametrize("name,train,dev,test,mentions", COUNTS)
def test_sets_read_published_files(name, train, dev, test, mentions):
    each, found = SETS[name], 0
    for split, n_rows in (("train", train), ("dev", dev), ("test", test)):
        if n_rows is None:
            continue
        paths = find_files(each, split, [MIRROR])
        rows = list(read_part(each.reader, each.options, paths, split))
        assert len(rows) == n_rows
        assert {label for row in rows for _, _, label in row.spans} <= set(each.labels)
        for row in rows:
            answers = row.answers or {}
            assert set(answers) <= set(each.labels)
            found += len(row.spans) + sum(map(len, answers.values()))
            assert all(row.text[start:end] for start, end, _ in row.spans)
    assert found == mentions
