"""Hold the tree's answers against plain greedy decoding, one prompt at a time.

Real passages and types with the shipped student: equal wherever the certificate
holds, and everywhere without constraint. And nonsense from a random LLaMA over
another vocabulary: every answer a list, every mention verbatim.

    python -m benchmarks.exactness --data ../shared/data --out benchmarks/results/exactness.json
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, List, Sequence

import torch
from tqdm import tqdm

from spacy_uniner.students.local import LocalStudent, make_local_student
from spacy_uniner.students.reference import ReferenceStudent
from training.evaluate import describe_run

from .passages import Asked, all_types, own_questions


def compare(model: str, dtype: str, asked: Sequence[Asked]) -> Dict[str, Any]:
    """Compare with the reference.

    model (str): The student.
    dtype (str): Number format of both.
    asked (Sequence[Asked]): Passages with types.
    RETURNS (Dict[str, Any]): Counts.
    """
    settings: Dict[str, Any] = {"model": model, "dtype": dtype, "max_new_tokens": 24}
    guided = make_local_student(**settings, mention_bound=0.0, empty_bound=0.5)
    free = make_local_student(**settings, constrained=False)
    reference = ReferenceStudent(free)
    counts = dict.fromkeys(("pairs", "certified", "certified_equal", "free_equal"), 0)
    differing: List[List[str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows, free_rows = guided(asked), free(asked)
    for question, row, free_row in zip(tqdm(asked, disable=None), rows, free_rows):
        [plain] = reference([question])
        for answer, unbound, slow in zip(row, free_row, plain):
            counts["pairs"] += 1
            counts["certified"] += answer.certified
            counts["certified_equal"] += answer.certified and answer.text == slow.text
            counts["free_equal"] += unbound.text == slow.text
            if unbound.text != slow.text and len(differing) < 20:
                differing.append([unbound.text[:200], slow.text[:200]])
    return {**counts, "differing": differing}


def random_student(tokenizer: Path, folder: Path) -> LocalStudent:
    """Make a LLaMA of random weights over a LLaMA vocabulary.

    tokenizer (Path): Folder with `tokenizer.model` or `tokenizer.json`.
    folder (Path): Where to save it.
    RETURNS (LocalStudent): The student.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

    loaded = LlamaTokenizer.from_pretrained(tokenizer, legacy=True)
    loaded.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(loaded),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=loaded.bos_token_id,
        eos_token_id=loaded.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return make_local_student(model=str(folder), dtype="float32", max_new_tokens=32)


def nonsense(student: LocalStudent, asked: Sequence[Asked]) -> Dict[str, int]:
    """RETURNS (Dict[str, int]): Counts of answers that are no list, and of mentions
    that are not verbatim."""
    counts = dict.fromkeys(("answers", "mentions", "cut", "no_list", "not_verbatim"), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = student(asked)
    for (passage, _), row in zip(asked, rows):
        for answer in row:
            counts["answers"] += 1
            counts["mentions"] += len(answer.mentions)
            counts["cut"] += answer.truncated
            counts["not_verbatim"] += sum(
                m.text not in passage for m in answer.mentions
            )
            if not answer.truncated:
                try:
                    read = json.loads(answer.text)
                except ValueError:
                    read = None
                counts["no_list"] += read != [m.text for m in answer.mentions]
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--passages", type=int, default=170)
    parser.add_argument("--tokenizer", type=Path, help="of LLaMA 2, a folder")
    args = parser.parse_args()
    results: Dict[str, Any] = describe_run("benchmarks.exactness")
    asked = own_questions(args.data, args.passages)
    for dtype in ("float32", "bfloat16"):
        results[dtype] = compare(args.model, dtype, asked)
        print(dtype, {k: v for k, v in results[dtype].items() if k != "differing"})
    if args.tokenizer:
        types = all_types(args.data)[:50]
        many = [(passage, types) for passage, _ in own_questions(args.data, 200)]
        with tempfile.TemporaryDirectory() as folder:
            student = random_student(args.tokenizer, Path(folder))
            results["random LLaMA, LLaMA 2 vocabulary"] = nonsense(student, many)
        print(results["random LLaMA, LLaMA 2 vocabulary"])
    args.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
