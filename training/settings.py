"""Configs of the workflow: a file, and what is set otherwise on the command line."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Sequence

from confection import Config

from .files import InputError


def add_settings(parser: ArgumentParser) -> None:
    """Add `--config FILE` and `--set section.key=value ...` to a script.

    parser (ArgumentParser): The script's arguments.
    """
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument(
        "--set", nargs="*", default=[], help="overrides: section.key=value"
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
