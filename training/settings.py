"""Configs of the workflow: a file, and what is set otherwise on the command line."""

import json
from argparse import ArgumentParser
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, Sequence, Type, TypeVar

from confection import Config

from .files import InputError

T = TypeVar("T")


def add_settings(parser: ArgumentParser) -> None:
    """Add `--config FILE` and `--set section.key=value ...` to a script.

    parser (ArgumentParser): The script's arguments.
    """
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument(
        "--set",
        nargs="*",
        action="extend",
        default=[],
        help="overrides: section.key=value",
    )


def read_settings(path: Path, overrides: Sequence[str]) -> Config:
    """Read a config.

    path (Path): The file.
    overrides (Sequence[str]): "section.key=value"; values are JSON.
    RETURNS (Config): The config, overrides in place.
    RAISES (InputError): If it is none, or an override sets nothing that is there.
    """
    if not path.is_file():
        raise InputError(f"There is no config {path}.")
    values = {}
    for override in overrides:
        key, found, value = override.partition("=")
        try:
            values[key] = json.loads(value)
        except ValueError:
            found = ""
        if not found or "." not in key:
            raise InputError(
                f"{override!r} sets nothing: write section.key=value, the value as "
                "JSON, such as finetune.minutes=5 or finetune.init='\"mini\"'."
            )
    try:
        return Config().from_str(path.read_text(encoding="utf8"), overrides=values)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def fill(kind: Type[T], values: Dict[str, Any], section: str) -> T:
    """Make settings of a section of a config.

    kind (Type[T]): A dataclass whose fields have plain types.
    values (Dict[str, Any]): Names and values.
    section (str): What the section is called, for errors.
    RETURNS (T): The settings.
    RAISES (InputError): If a name is unknown or missing, or a value of another type.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in known:
            raise InputError(
                f"[{section}] has no setting {name!r}. There are: {', '.join(known)}."
            )
        wanted = str(known[name].type).replace("<class '", "").replace("'>", "")
        found = type(value).__name__
        if wanted in ("int", "float", "str", "bool") and found != wanted:
            if not (wanted == "float" and found == "int"):
                raise InputError(f"[{section}] {name} must be {wanted}, got {value!r}.")
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"[{section}]: {error}") from None
