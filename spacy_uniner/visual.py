"""displaCy for open types: every label gets a stable, readable colour, and nothing
that a label, a title or a colour holds can become markup.

spaCy's displaCy escapes the text of a document, but not labels, titles and
colours; here they are escaped or checked before displaCy sees them.
"""

import colorsys
import hashlib
import html
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from spacy import displacy
from spacy.tokens import Doc

from .errors import Errors

COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
STYLES = ("ent", "span")
# displaCy's own, with room for a title, and black text whatever the page's theme
ENT_TEMPLATE = """
<mark class="entity" title="{title}" style="background: {bg}; color: #000; padding: 0.45em 0.6em; margin: 0 0.25em; line-height: 1; border-radius: 0.35em;">
    {text}
    <span style="font-size: 0.8em; font-weight: bold; line-height: 1; border-radius: 0.35em; vertical-align: middle; margin-left: 0.5rem">{label}{kb_link}</span>
</mark>
"""


def label_colour(label: str) -> str:
    """Give a label its colour: the same in every run, light enough for black text.

    label (str): Any label.
    RETURNS (str): A colour, #RRGGBB.
    """
    digest = hashlib.sha256(label.casefold().encode("utf8", "replace")).digest()
    hue, light = digest[0] / 256 + digest[1] / 65536, 0.78 + digest[2] / 256 * 0.08
    rgb = colorsys.hls_to_rgb(hue % 1.0, light, 0.75)
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in rgb)


def render(
    docs: Union[Doc, Iterable[Doc]],
    *,
    style: str = "ent",
    spans_key: str = "uniner",
    colours: Optional[Mapping[str, str]] = None,
    scores: bool = True,
    page: bool = False,
    jupyter: Optional[bool] = None,
) -> str:
    """Render documents with their entities.

    docs (Union[Doc, Iterable[Doc]]): What to show.
    style (str): "ent" for `doc.ents`, "span" for all of `doc.spans[spans_key]`.
    spans_key (str): Where the spans and their probabilities are.
    colours (Optional[Mapping[str, str]]): Label -> colour, #RRGGBB; others get theirs.
    scores (bool): Whether to show probabilities.
    page (bool): Whether to give a whole HTML page.
    jupyter (Optional[bool]): Whether to display; None finds out.
    RETURNS (str): HTML; displayed in Jupyter, where it is empty.
    RAISES (ValueError): U014 for another style, U050 for another colour.
    """
    if style not in STYLES:
        raise ValueError(
            Errors.U014.format(setting="style", allowed=STYLES, found=style)
        )
    listed = [docs] if isinstance(docs, Doc) else list(docs)
    labels = {span.label_ for doc in listed for span in _spans(doc, style, spans_key)}
    options: Dict[str, Any] = {"colors": _palette(labels, colours or {})}
    if style == "ent":
        options["template"] = ENT_TEMPLATE
    parsed = [_parse(doc, style, spans_key, scores) for doc in listed]
    markup = displacy.render(
        parsed, style=style, manual=True, page=page, jupyter=jupyter, options=options
    )
    return markup or ""  # Jupyter shows it, and gives nothing back


def save_page(
    docs: Union[Doc, Iterable[Doc]],
    path: Union[str, Path],
    *,
    style: str = "ent",
    spans_key: str = "uniner",
    colours: Optional[Mapping[str, str]] = None,
    scores: bool = True,
) -> None:
    """Write an HTML page. For settings and errors see `render`.

    docs (Union[Doc, Iterable[Doc]]): What to show.
    path (Union[str, Path]): The file; written whole or not at all.
    """
    page = render(
        docs,
        style=style,
        spans_key=spans_key,
        colours=colours,
        scores=scores,
        page=True,
        jupyter=False,
    )
    target = Path(path)
    partial = target.with_name(target.name + ".tmp")
    partial.write_text(page, encoding="utf8")
    partial.replace(target)


def span_scores(
    doc: Doc, spans_key: str = "uniner"
) -> Dict[Tuple[int, int, str], float]:
    """Look up the probabilities of spans.

    doc (Doc): An annotated document.
    spans_key (str): Where the spans are.
    RETURNS (Dict[Tuple[int, int, str], float]): (start, end, label) -> probability;
        start and end in tokens.
    """
    if spans_key not in doc.spans:
        return {}
    group = doc.spans[spans_key]
    keys = [(span.start, span.end, span.label_) for span in group]
    return dict(zip(keys, group.attrs.get("scores", ())))


def _spans(doc: Doc, style: str, spans_key: str) -> List[Any]:
    if style == "ent":
        return list(doc.ents)
    return list(doc.spans[spans_key]) if spans_key in doc.spans else []


def _palette(labels: Iterable[str], given: Mapping[str, str]) -> Dict[str, str]:
    """Colours by the key that displaCy looks up: the escaped label."""
    palette = {}
    for label in labels:
        colour = given.get(label) or label_colour(label)
        if not COLOUR.fullmatch(colour):
            raise ValueError(Errors.U050.format(colour=colour, label=label))
        palette[html.escape(label)] = colour
    return palette


def _parse(doc: Doc, style: str, spans_key: str, scores: bool) -> Dict[str, Any]:
    """What displaCy's manual mode takes, with all but the text escaped."""
    known = span_scores(doc, spans_key) if scores else {}
    items = []
    for span in _spans(doc, style, spans_key):
        score = known.get((span.start, span.end, span.label_))
        label = html.escape(span.label_)
        told = "" if score is None else f"{score:.2f}"
        item: Dict[str, Any] = {
            "start": span.start_char,
            "end": span.end_char,
            "label": label,
            "params": {"title": f"{label} {told}".strip()},
        }
        if style == "span":
            item.update(start_token=span.start, end_token=span.end, kb_id=told)
        items.append(item)
    parsed: Dict[str, Any] = {
        "text": doc.text,
        "title": None,
        "settings": {"direction": "ltr"},
    }
    if style == "span":
        return {**parsed, "spans": items, "tokens": [token.text for token in doc]}
    return {**parsed, "ents": items}
