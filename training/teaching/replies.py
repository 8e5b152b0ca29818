"""Tell apart what an OpenAI-compatible server answers: a reply, a passage that it
will not take, a fault that may pass, or a reason to stop the run.

Knows statuses, headers and bodies; sends nothing, waits for nothing.
"""

import json
import re
import time
from dataclasses import dataclass
from typing import Dict, Mapping, NoReturn, Optional

from spacy_uniner.students.serving.replies import read_wait

from ..files import SURROGATE, InputError

MAX_WAIT = 120.0  # seconds that a server may ask us to wait
MAX_WORDS = 200  # characters of a server's words that are told
BUSY = {429, 503}  # statuses that concern every caller, not one request
PASSING = {408, 409, 425, *range(500, 600)}
REFUSED = {400, 413, 422}
HOPELESS = {
    "insufficient_quota": "the account has no quota left",
    "billing_hard_limit_reached": "the account has no quota left",
    "model_not_found": "it does not have the model",
    "unsupported_parameter": "it does not take our settings",
    "unsupported_value": "it does not take our settings",
}
TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum context|exceed_context|too (long|many tokens)"
)
FILTERED = re.compile(r"content[ _](filter|policy|management)|responsible ?ai")
KEY = re.compile(r"sk-\S+")


class StopRun(InputError):
    """No further call can succeed until the user does something."""


class Fault(Exception):
    """A call that failed; the next one need not."""

    def __init__(
        self,
        kind: str,
        words: str = "",
        *,
        is_passing: bool = True,
        is_free: bool = False,
        pause: Optional[float] = None,
    ) -> None:
        """Describe what went wrong.

        kind (str): What it is called where faults are counted.
        words (str): What the server said of it, without keys.
        is_passing (bool): Whether the same request may succeed later.
        is_free (bool): Whether it is sure to cost nothing.
        pause (Optional[float]): Seconds for which nobody should ask; 0 if the server
            is busy but does not say how long.
        """
        super().__init__(f"{kind}: {words}" if words else kind)
        self.kind = kind
        self.is_passing = is_passing
        self.is_free = is_free
        self.pause = pause


@dataclass(frozen=True)
class Reply:
    """What a teacher answered.

    text (str): Its text as it came; lone surrogates are replaced.
    status (str): "truncated", "filtered", "too_long", or "ok": it came to its end.
    n_input (Optional[int]): Tokens of the request, if the server counts them.
    n_output (Optional[int]): Tokens of the answer.
    """

    text: str
    status: str = "ok"
    n_input: Optional[int] = None
    n_output: Optional[int] = None


def redact(text: str, key: str) -> str:
    """Take keys out of a server's words, and all but the first of the words.

    text (str): What the server said.
    key (str): Our key, if it is one.
    RETURNS (str): A line that may be told.
    """
    return " ".join(KEY.sub("[key]", hide(text, key)).split())[:MAX_WORDS]


def hide(text: str, key: str) -> str:
    """RETURNS (str): The text without our key, if we have one."""
    return text.replace(key, "[key]") if key and key != "EMPTY" else text


def read_reply(content: str, key: str = "") -> Reply:
    """Read the body of a response that says it is one.

    content (str): The body.
    key (str): Our key, to keep it out of what is told.
    RETURNS (Reply): The answer.
    RAISES (Fault, StopRun): If there is no answer in it.
    """
    body = _read_object(content)
    if body is None:
        raise Fault("the reply is not JSON", redact(content, key))
    if body.get("error"):
        return read_refusal(200, {}, content, key)
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise Fault("the reply has no choices")
    text, reason = message.get("content"), choice.get("finish_reason")
    if not isinstance(text, str):
        if reason != "content_filter" and not message.get("refusal"):
            raise Fault("the reply has no text")
        text, reason = "", "content_filter"
    status = {"length": "truncated", "content_filter": "filtered"}.get(reason, "ok")
    usage = body.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(hide(SURROGATE.sub("\ufffd", text), key), status, *counts)


def _read_object(content: str) -> Optional[dict]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _count(usage: object, name: str) -> Optional[int]:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def read_refusal(
    status: int, headers: Mapping[str, str], content: str, key: str = ""
) -> Reply:
    """Read a response that is no reply.

    status (int): Of the response; 200 if only its body tells of an error.
    headers (Mapping[str, str]): Of the response.
    content (str): The body.
    key (str): Our key, to keep it out of what is told.
    RETURNS (Reply): If it is the passage's own fault: "too_long" or "filtered".
    RAISES (Fault): If the call failed.
    RAISES (StopRun): If all calls would.
    """
    error = _read_error(content)
    words = redact(error["message"], key)
    codes = f"{error['code']} {error['type']}"
    _stop_if_hopeless(status, headers, codes, words)
    if status in REFUSED or status == 200:
        told = f"{codes} {error['message']}".lower()
        if status == 413 or TOO_LONG.search(told):
            return Reply("", "too_long", 0, 0)
        if FILTERED.search(told):
            return Reply("", "filtered", 0, 0)
    if status in BUSY:
        pause = read_wait(headers.get("retry-after"))
        raise Fault(f"busy ({status})", words, is_free=True, pause=pause or 0.0)
    if status in PASSING:
        raise Fault(f"server error ({status})", words, is_free=True)
    if status == 200:
        raise Fault("an error instead of a reply", words)
    raise Fault(f"refused ({status})", words, is_passing=False, is_free=True)


def _read_error(content: str) -> Dict[str, str]:
    """Find code, type and message, wherever this server puts them."""
    body = _read_object(content)
    error = body.get("error", body) if body is not None else content
    if not isinstance(error, dict):
        error = {"message": error}
    message = error.get("message") or error.get("detail") or ""
    found = {"code": error.get("code"), "type": error.get("type"), "message": message}
    return {name: "" if v is None else str(v) for name, v in found.items()}


def _stop_if_hopeless(
    status: int, headers: Mapping[str, str], codes: str, words: str
) -> None:
    if status in (401, 403):
        # not the server's words: some repeat parts of the key
        _stop(f"it refuses the key ({status})", "", "Check the variable of --key-env.")
    if 300 <= status < 400:
        where = redact(headers.get("location", "elsewhere"), "").split("?")[0]
        cure = "Passages are not sent on; give the right address with --endpoint."
        _stop(f"it redirects to {where} ({status})", "", cure)
    for code, meaning in HOPELESS.items():
        if code in codes:
            _stop(f"{meaning} ({status})", words, "")
    if status == 402:
        _stop("it wants to be paid (402)", words, "")
    if status in (404, 405):
        cure = "Check --model, and that --endpoint ends as the server wants, often /v1."
        _stop(f"it has no such model or address ({status})", words, cure)
    wait = read_wait(headers.get("retry-after")) if status in BUSY else None
    if wait is not None and wait > MAX_WAIT:
        when = time.strftime("%H:%M:%S", time.localtime(time.time() + wait))
        _stop(
            f"it wants us to wait {wait:.0f} seconds ({status})",
            words,
            f"That is more than {MAX_WAIT:.0f}: run again after {when}.",
        )


def _stop(what: str, words: str, cure: str) -> NoReturn:
    said = f" It says: {words!r}." if words else ""
    end = f" {cure}" if cure else ""
    raise StopRun(f"The server stops the run: {what}.{said}{end}")
