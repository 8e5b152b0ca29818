"""The settings of a student on a server: valid, or not made at all."""

import json
from dataclasses import dataclass
from typing import Optional

from ...errors import Errors
from ...prompt import get_template, is_printable_phrase
from .address import Address

MAX_DATASET_CHARS = 100
ON_ERROR = ("raise", "mark")
CONSTRAINTS = ("auto", "copy", "list", "none")
LONGEST_WAIT = 86400.0  # seconds


@dataclass(frozen=True)
class Settings:
    """What `make_server_student` takes, and describes."""

    url: str
    model: str
    template: str = "uniner"
    key_env: Optional[str] = None
    concurrency: int = 32  # requests in flight
    timeout: float = 120.0  # seconds, per question
    retries: int = 3  # attempts after the first
    max_passage_tokens: int = 256
    max_new_tokens: int = 256
    on_error: str = "raise"
    constraint: str = "auto"
    dataset: Optional[str] = None

    def __post_init__(self) -> None:
        """RAISES (ValueError): U001, U034, U039, U048, U095, if one is not allowed."""
        Address(self.url)
        get_template(self.template)
        for setting, allowed in (("on_error", ON_ERROR), ("constraint", CONSTRAINTS)):
            chosen = getattr(self, setting)
            if chosen not in allowed:
                message = Errors.U034.format(
                    setting=setting, allowed=allowed, found=chosen
                )
                raise ValueError(message)
        for setting, unit, least in (
            ("concurrency", "requests", 1),
            ("timeout", "seconds", 0.1),
            ("retries", "attempts", 0),
            ("max_passage_tokens", "tokens", 1),
            ("max_new_tokens", "tokens", 1),
        ):
            found = getattr(self, setting)
            if not found >= least:  # neither is what is no number
                message = Errors.U039.format(
                    setting=setting, unit=unit, least=least, found=found
                )
                raise ValueError(message)
        name = self.dataset
        if name is not None and not is_printable_phrase(name, MAX_DATASET_CHARS):
            message = Errors.U048.format(limit=MAX_DATASET_CHARS, dataset=name)
            raise ValueError(message)

    @property
    def address(self) -> Address:
        """RETURNS (Address): Where the server is."""
        return Address(self.url)

    @property
    def deadline(self) -> float:
        """RETURNS (float): Seconds for a question, in what clocks can count."""
        return min(self.timeout, LONGEST_WAIT)

    @property
    def held_to(self) -> str:
        """RETURNS (str): What answers are held to: "copy", "list" or "none"."""
        if self.constraint == "auto":
            return "copy" if self.template == "mini" else "list"
        return self.constraint

    @property
    def identity(self) -> str:
        """RETURNS (str): All that answers depend on, for those who keep them; no key."""
        told = {
            "host": self.address.host,
            "model": self.model,
            "template": self.template,
            "dataset": self.dataset,
            "max_new_tokens": self.max_new_tokens,
            "constraint": self.held_to,
        }
        return json.dumps(told, sort_keys=True, ensure_ascii=False)
