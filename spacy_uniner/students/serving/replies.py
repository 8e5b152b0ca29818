"""Tell apart what an OpenAI-compatible server sends: a completion, a fault that may
pass, a question that it will not take, or a reason to ask nothing more.

Knows statuses, headers and bodies of any shape; sends nothing, waits for nothing.
"""

import json
import math
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Tuple

from .address import redact

BUSY = (429, 503)  # statuses that concern every question, not one
PASSING = (408, 409, 425)
HOPELESS = {
    "insufficient_quota": "the account has no quota left",
    "billing": "the account has no quota left",
}
TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (context|model)|max_model_len|"
    r"exceed_context|too (long|many tokens|large)|longer than the max"
)
NO_MODEL = re.compile(
    r"model.{0,200}(not exist|n't exist|not found|not (a )?valid|not loaded|unknown)|"
    r"(unknown|no such|invalid) model|pinned to",
    re.DOTALL,
)
SURROGATE = re.compile("[\ud800-\udfff]")


class Fault(Exception):
    """A question that got no answer."""

    def __init__(
        self,
        reason: str,
        *,
        is_passing: bool = True,
        pause: Optional[float] = None,
        stops: str = "",
        is_too_long: bool = False,
    ) -> None:
        """Describe what went wrong.

        reason (str): What was found, without keys.
        is_passing (bool): Whether the same request may succeed later.
        pause (Optional[float]): Seconds for which nobody should ask; 0 if the server
            is busy but does not say how long.
        stops (str): What to do before anything is asked again; empty if other questions
            may fare better. "model" if the server does not have it.
        is_too_long (bool): Whether the prompt is longer than the server reads.
        """
        super().__init__(reason)
        self.reason = reason
        self.is_passing = is_passing and not stops and not is_too_long
        self.pause = pause
        self.stops = stops
        self.is_too_long = is_too_long


@dataclass(frozen=True)
class Token:
    """A token of a completion.

    text (str): As the server spells it.
    p (float): Its probability.
    others (Dict[str, float]): The probabilities of the best tokens in its place, of
        which it may be one.
    """

    text: str
    p: float
    others: Dict[str, float]


@dataclass(frozen=True)
class Completion:
    """What a server wrote.

    text (str): Its text; lone surrogates are replaced.
    tokens (Tuple[Token, ...]): Its tokens, if the server tells them.
    n_prompt (int): Tokens of the prompt; 0 if the server does not count.
    n_tokens (int): Tokens of the text; 0 if the server does not count.
    model (str): Which model wrote it; empty if the server does not say.
    """

    text: str
    tokens: Tuple[Token, ...] = ()
    n_prompt: int = 0
    n_tokens: int = 0
    model: str = ""


def read_json(content: bytes, key: str = "") -> Dict[str, Any]:
    """Read the body of a response that says that all is well.

    content (bytes): The body.
    key (str): Our key, to keep it out of what is told.
    RETURNS (Dict[str, Any]): The object in it.
    RAISES (Fault): If there is none, or it tells of an error.
    """
    body = _read_object(content)
    if body is None:
        words = redact(content[:1000].decode("utf8", "replace"), key)
        raise Fault(f"a reply that is no JSON object: {words!r}")
    if body.get("error"):
        refuse(200, {}, content, key)
    return body


def read_completion(body: Mapping[str, Any]) -> Completion:
    """Read a completion.

    body (Mapping[str, Any]): The object of a response.
    RETURNS (Completion): What was written.
    RAISES (Fault): If there is no text in it.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    text = choice.get("text") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(text, str):
        raise Fault("a reply without text: `choices[0].text` is missing")
    model, usage = body.get("model"), body.get("usage")
    return Completion(
        SURROGATE.sub("\ufffd", text),
        _read_tokens(choice.get("logprobs")),
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        model if isinstance(model, str) else "",
    )


def refuse(
    status: int, headers: Mapping[str, str], content: bytes, key: str = ""
) -> NoReturn:
    """Say why a response is no answer.

    status (int): Of the response; 200 if only its body tells of an error.
    headers (Mapping[str, str]): Of the response.
    content (bytes): The body.
    key (str): Our key, to keep it out of what is told.
    RAISES (Fault): Always.
    """
    codes, message = _read_error(content)
    words = redact(message, key)
    said = f"{words!r} ({status})" if words else f"status {status}"
    told = f"{codes} {message}".lower()
    if status in (401, 403):
        # not the server's words: some repeat parts of the key
        cure = "Check the variable that `key_env` names."
        raise Fault(f"it refuses the key ({status})", stops=cure)
    if 300 <= status < 400:
        where = redact(headers.get("location", "elsewhere"), key).split("?")[0]
        cure = "Documents are not sent on; give the right `url`."
        raise Fault(f"it redirects to {where} ({status})", stops=cure)
    for code, meaning in HOPELESS.items():
        if code in codes.lower() or status == 402:
            raise Fault(f"{meaning} ({status})", stops="Pay, or ask another server.")
    if status in (200, 400, 413, 422) and (status == 413 or TOO_LONG.search(told)):
        raise Fault(said, is_too_long=True)
    if "model_not_found" in told or (status in (400, 404) and NO_MODEL.search(told)):
        raise Fault(said, stops="model")
    if status in (404, 405, 501):
        cure = "Check `url`; it often ends in /v1, and /completions must be there."
        raise Fault(f"it has no such address: {said}", stops=cure)
    if status in BUSY:
        pause = read_wait(headers.get("retry-after"))
        raise Fault(f"it is busy: {said}", pause=pause or 0.0)
    raise Fault(said, is_passing=status == 200 or status >= 500 or status in PASSING)


def read_wait(value: Optional[str]) -> Optional[float]:
    """Read a Retry-After header.

    value (Optional[str]): Seconds or a date.
    RETURNS (Optional[float]): Seconds from now; None if it tells no time.
    """
    try:
        wait = float(value or "")
    except ValueError:
        try:
            wait = parsedate_to_datetime(value or "").timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return max(0.0, wait) if math.isfinite(wait) else None


def _read_object(content: bytes) -> Optional[Dict[str, Any]]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _read_error(content: bytes) -> Tuple[str, str]:
    """Find codes and message, wherever this server puts them."""
    body = _read_object(content)
    text = content[:1000].decode("utf8", "replace")
    error: object = text if body is None else body.get("error", body)
    if not isinstance(error, dict):
        return "", str(error)
    codes = f"{error.get('code')} {error.get('type')}"
    return codes, str(error.get("message") or error.get("detail") or "")


def _read_tokens(logprobs: object) -> Tuple[Token, ...]:
    """Read tokens as the completions of OpenAI have them, or as its chats; none at all
    if anything is amiss."""
    if not isinstance(logprobs, dict):
        return ()
    try:
        if "content" in logprobs:
            return tuple(
                _token(
                    row["token"],
                    row["logprob"],
                    {top["token"]: top["logprob"] for top in row["top_logprobs"] or ()},
                )
                for row in logprobs["content"]
            )
        texts, values = logprobs["tokens"], logprobs["token_logprobs"]
        tops: List[Any] = logprobs.get("top_logprobs") or [None] * len(texts)
        if not len(texts) == len(values) == len(tops):
            return ()
        return tuple(_token(*row) for row in zip(texts, values, tops))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ()


def _token(text: Any, logprob: Any, top: Any) -> Token:
    """RAISES (TypeError, ValueError): If something is not what it should be."""
    others = {text: logprob, **(top or {})}
    if not all(isinstance(other, str) for other in others):
        raise TypeError("a token is no string")
    if any(math.isnan(value) for value in others.values()):
        raise ValueError("a probability is no number")
    shares = {other: math.exp(min(0.0, value)) for other, value in others.items()}
    return Token(text, shares[text], shares)


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
