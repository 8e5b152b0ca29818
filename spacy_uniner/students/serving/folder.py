"""Write a copy of a checkpoint that servers can serve.

The list syntax of the shipped student, and of those made like it, are special tokens,
which servers leave out of the text that they send. In the copy they are not special.
"""

import json
import shutil
from pathlib import Path
from typing import Union

from ..checkpoint import find_checkpoint
from .prompts import KNOWN

TOKENIZER = "tokenizer.json"


def write_copy(model: str, path: Union[str, Path]) -> Path:
    """Copy a checkpoint for servers. In the copy, tokens are special only if they
    begin, end or fill a text; in this process it can't be loaded.

    model (str): "mini" for the shipped student, or a folder.
    path (Union[str, Path]): A folder that does not exist yet.
    RETURNS (Path): The folder.
    RAISES (ValueError): U030 or U031, if there is no such checkpoint.
        (FileExistsError): If there is such a folder.
    """
    folder = Path(path)
    source = find_checkpoint(model).path
    # the manifest is of the files as they were
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("manifest.json"))
    file = folder / TOKENIZER
    if file.is_file():  # not so with sentencepiece alone
        tokenizer = json.loads(file.read_text(encoding="utf8"))
        for token in tokenizer["added_tokens"]:
            token["special"] &= token["content"] in KNOWN
        file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf8")
    return folder
