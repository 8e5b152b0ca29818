"""Train the tokenizer of a student from scratch.

A byte-level BPE in which words, digits and punctuation marks never share a
piece, so that mentions start and end on pieces, and in which the markers of the
template and the list syntax are single special pieces. Saved in the Hugging
Face format.

    python -m training.vocabulary --conversations conversations.jsonl --out DIR
"""

import argparse
import json
from pathlib import Path
from typing import Iterator

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)

from spacy_uniner.prompt import get_template
from spacy_uniner.students.copying import SYNTAX_PIECES

from .files import run_script
from .turns import from_conversation, read_conversations

# a word or a single mark with its blank, a single digit, a run of blanks
SPLIT = Regex(r" ?\p{L}\p{M}*(?:\p{L}|\p{M})*| ?\p{N}| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s")


def build_tokenizer(texts: Iterator[str], *, size: int, template: str) -> Tokenizer:
    """Train a tokenizer.

    texts (Iterator[str]): What to train on.
    size (int): Pieces, special ones included.
    template (str): Template whose markers become special pieces.
    RETURNS (Tokenizer): The tokenizer.
    """
    special = [*get_template(template).markers, *SYNTAX_PIECES]
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splitter = pre_tokenizers.Split(SPLIT, behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splitter, byte_level])
    # the first word of a mention keeps its blank, like in the passage; lists don't show it
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            decoders.Replace('[" ', '["'),
            decoders.Replace('", " ', '", "'),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Save a tokenizer as transformers reads it.

    tokenizer (Tokenizer): The tokenizer.
    folder (Path): Where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    text = json.dumps(settings, indent=1) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf8")


def conversation_texts(path: Path, n_rows: int) -> Iterator[str]:
    """Read what is said in conversations.

    path (Path): Conversations, JSON lines.
    n_rows (int): How many of them.
    YIELDS (str): A passage, with a blank before its first word.
    """
    for i, row in enumerate(read_conversations(path)):
        if i == n_rows:
            return
        yield " " + from_conversation(row)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--conversations", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--template", default="mini")
    parser.add_argument("--rows", type=int, default=200000)
    args = parser.parse_args()
    texts = conversation_texts(args.conversations, args.rows)
    tokenizer = build_tokenizer(texts, size=args.size, template=args.template)
    save_tokenizer(tokenizer, args.out)
    print(f"{tokenizer.get_vocab_size()} pieces -> {args.out}")


if __name__ == "__main__":
    run_script(main)
