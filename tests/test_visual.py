"""Pictures: nothing but displaCy's own markup, stable colours, scores as titles."""

from html.parser import HTMLParser

import pytest
import spacy
from spacy.tokens import Span, SpanGroup

from spacy_uniner.visual import label_colour, render, save_page

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onclick='alert(1)",
    "</mark><svg onload=alert(1)>",
    "{label}",
    "{bg.__class__}",
    "<a href=javascript:alert(1)>",
    "&lt;b&gt;",
    "<!--",
    "]]>",
    "${x}",
    "{{7*7}}",
    "<style>*{display:none}</style>",
    "\"><iframe src='//x'>",
]


class Tags(HTMLParser):
    """Collects tags and attribute names."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add((tag, *sorted(name for name, _ in attrs)))


def tags_of(markup):
    parser = Tags()
    parser.feed(markup)
    return parser.seen


def make_doc(label, text="Ada Byron wrote"):
    nlp = spacy.blank("en")
    doc = nlp.make_doc(text)
    span = Span(doc, 0, 2, label=label)
    doc.ents = [span]
    doc.spans["uniner"] = SpanGroup(doc, name="uniner", spans=[span])
    doc.spans["uniner"].attrs["scores"] = [0.987]
    return doc


@pytest.mark.parametrize("style", ["ent", "span"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_visual_labels_and_texts_never_become_markup(attack, style):
    harmless = tags_of(render(make_doc("person"), style=style, jupyter=False))
    markup = render(make_doc(attack, attack + " wrote it"), style=style, jupyter=False)
    assert tags_of(markup) <= harmless


@pytest.mark.parametrize("style", ["ent", "span"])
def test_visual_shows_scores_and_colours(style):
    markup = render(make_doc("person"), style=style, jupyter=False)
    assert "0.99" in markup
    assert label_colour("person") in markup
    assert "#123456" in render(
        make_doc("a b"), style=style, colours={"a b": "#123456"}, jupyter=False
    )


@pytest.mark.parametrize(
    "colour", ["red;} body{display:none", "#12", "#ggg", "url(x)", '#123456"']
)
def test_visual_refuses_colours_that_are_none(colour):
    with pytest.raises(ValueError, match="U050"):
        render(make_doc("person"), colours={"person": colour}, jupyter=False)


def test_visual_refuses_another_style():
    with pytest.raises(ValueError, match="U014"):
        render(make_doc("person"), style="dep")


def relative_luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear))


def test_visual_colours_are_stable_readable_and_many():
    labels = [f"type {i}" for i in range(300)]
    colours = [label_colour(label) for label in labels]
    assert colours == [label_colour(label) for label in labels]
    assert len(set(colours)) > 290
    # WCAG 2 asks for a contrast of 4.5 for text; black on these has more
    assert min((relative_luminance(c) + 0.05) / 0.05 for c in colours) > 7


def test_visual_page_is_written_whole(tmp_path):
    save_page([make_doc("person"), make_doc("city")], tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text().startswith("<!DOCTYPE html>")
    assert not list(tmp_path.glob("*.tmp"))


def test_visual_documents_without_spans(tmp_path):
    doc = spacy.blank("en").make_doc("nothing here")
    for style in ("ent", "span"):
        assert "nothing" in render(doc, style=style, jupyter=False)
