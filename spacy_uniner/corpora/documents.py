"""Make a document of a record, or say in a few words why there is none."""

import json
from typing import TYPE_CHECKING, Any, Dict, NoReturn, Tuple

from ..prompt import check_unicode
from .records import DOC, FAULT, TEXT, Record

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

TOLD = 300  # characters of a reason


def make_doc(nlp: "Language", record: Record) -> Tuple["Doc", Dict[str, Any]]:
    """Make a document that is not annotated yet, but for what a `.spacy` file says.

    nlp (Language): The pipeline, for its tokenizer and vocabulary.
    record (Record): The record.
    RETURNS (Tuple[Doc, Dict[str, Any]]): The document, and the other keys of its row.
    RAISES (ValueError): If it holds none that can be annotated: in the text of the
        error, why. (RecursionError): If it is JSON that is nested too deeply.
    """
    from spacy.tokens import Doc

    if record.kind == FAULT:
        raise ValueError(record.content.decode("utf8"))
    if record.kind == DOC:
        doc = Doc(nlp.vocab).from_bytes(record.content)
        check_text(doc.text)
        return doc, {}
    text, meta = read_line(record)
    check_text(text)
    return nlp.make_doc(text), meta


def check_text(text: str) -> None:
    """Check that a text can be annotated.

    text (str): The text of a document.
    RAISES (ValueError): If it is blank; U003, if it is not valid Unicode.
    """
    if not text.strip():
        raise ValueError("the text is empty")
    check_unicode(text)


def read_line(record: Record) -> Tuple[str, Dict[str, Any]]:
    """Read a line of text or JSON.

    record (Record): A record of the kind "text" or "json".
    RETURNS (Tuple[str, Dict[str, Any]]): The text, and the other keys.
    RAISES (ValueError): If it can't be read, with the reason.
    """
    try:
        line = record.content.decode("utf-8-sig" if record.line == 1 else "utf-8")
    except UnicodeDecodeError as e:
        raise ValueError(f"not UTF-8: {e.reason} at byte {e.start}") from None
    if record.kind == TEXT:
        return line.rstrip("\r\n"), {}
    try:
        row = json.loads(line, parse_constant=_refuse)
    except ValueError as e:
        raise ValueError(f"not JSON: {e}") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ValueError('not a JSON object with a string under "text"')
    text = row.pop("text")
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf8")
    except ValueError as e:
        raise ValueError(f"the other keys can't be written again: {e}") from None
    return text, row


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def make_fault(shard: int, record: Record, error: BaseException) -> Dict[str, Any]:
    """Describe a record that comes to nothing.

    shard (int): The number of its shard.
    record (Record): The record.
    error (BaseException): Why.
    RETURNS (Dict[str, Any]): A row of `errors.jsonl`.
    """
    reason = str(error) or repr(error)
    if type(error) is not ValueError:
        reason = f"{type(error).__name__}: {reason}"
    printable = reason.encode("utf8", "replace").decode("utf8")
    return {
        "shard": shard,
        "number": record.number,
        "file": record.file.encode("utf8", "replace").decode("utf8"),
        "line": record.line,
        "reason": printable[:TOLD],
    }
