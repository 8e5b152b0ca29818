"""Other ways to get the same answers, or to do the same job: what the tree is held
against. All generative ones share the weights of one student, and write at most as
many tokens per answer as the tree does: a small student without constraint may go on
for ever, and nobody should look slow for that."""

import warnings
from typing import Callable, Dict, List, Sequence, Tuple

import spacy
import torch
from transformers import DebertaV2Config, DebertaV2Model, DynamicCache

from spacy_uniner.students.local import LocalStudent

from .passages import Asked

Answers = List[List[str]]  # passage, type -> text of the answer


class Tree:
    """Ours, as it ships."""

    def __init__(self, student: LocalStudent) -> None:
        self.student = student

    def __call__(self, asked: Sequence[Asked]) -> Answers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of answers that were cut
            rows = self.student(asked)
        return [[answer.text for answer in row] for row in rows]


class Lengths(Dict[Tuple[str, str], int]):
    """How many tokens the tree's answers have, their ends included."""

    def __init__(self, student: LocalStudent, asked: Sequence[Asked]) -> None:
        """Ask the tree.

        student (LocalStudent): The student.
        asked (Sequence[Asked]): What will be asked.
        """
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = student(asked)
        for (passage, types), row in zip(asked, rows):
            for entity_type, answer in zip(types, row):
                self[passage, entity_type] = answer.n_tokens + 1


class Padded:
    """B: left-padded batches of prompts, `generate`, by length. With one row at a time
    A: the official way, one prompt per type."""

    def __init__(self, student: LocalStudent, lengths: Lengths, *, rows: int) -> None:
        self.student, self.lengths, self.rows = student, lengths, rows

    def __call__(self, asked: Sequence[Asked]) -> Answers:
        coder = self.student.coder
        prompts = [
            (i, j, coder.prefix(passage) + coder.question(t), self.lengths[passage, t])
            for i, (passage, types) in enumerate(asked)
            for j, t in enumerate(types)
        ]
        prompts.sort(key=lambda p: len(p[2]))
        out = [[""] * len(types) for _, types in asked]
        for at in range(0, len(prompts), self.rows):
            batch = prompts[at : at + self.rows]
            longest = max(length for *_, length in batch)
            texts = self._write([p for _, _, p, _ in batch], longest)
            for (i, j, _, _), text in zip(batch, texts):
                out[i][j] = text
        return out

    def _write(self, prompts: List[List[int]], longest: int) -> List[str]:
        coder = self.student.coder
        ids, mask = pad_left(prompts, coder.end)
        with torch.inference_mode():
            written = self.student.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=longest,
                do_sample=False,
                eos_token_id=coder.end,
                pad_token_id=coder.end,
            )
        return [coder.answer(row[ids.shape[1] :].tolist()).strip() for row in written]


class PrefixCache:
    """C: the passage once, its cache repeated per type, then token by token; rows
    that are done leave."""

    def __init__(self, student: LocalStudent, lengths: Lengths) -> None:
        self.student, self.lengths = student, lengths

    def __call__(self, asked: Sequence[Asked]) -> Answers:
        return [self._passage(passage, types) for passage, types in asked]

    @torch.inference_mode()
    def _passage(self, passage: str, types: Sequence[str]) -> List[str]:
        coder, model = self.student.coder, self.student.model
        prefix = coder.prefix(passage)
        cache = DynamicCache(config=model.config)
        model.model(torch.tensor([prefix]), past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(types))
        ids, mask = pad_left([coder.question(t) for t in types], coder.end)
        mask = torch.cat((mask.new_ones(len(types), len(prefix)), mask), 1)
        positions = (mask.cumsum(1) - 1)[:, len(prefix) :]
        written: List[List[int]] = [[] for _ in types]
        live = list(range(len(types)))
        wanted = [self.lengths[passage, t] for t in types]
        while True:
            logits = model(
                ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            best = logits.argmax(-1)
            for row, token in zip(live, best.tolist()):
                written[row].append(token)
            going = [
                r
                for r, (row, t) in enumerate(zip(live, best.tolist()))
                if t != coder.end and len(written[row]) < wanted[row]
            ]
            if not going:
                break
            kept = torch.tensor(going)
            if len(going) < len(live):
                cache.batch_select_indices(kept)
                live = [live[r] for r in going]
            ids = best[kept][:, None]
            mask = torch.cat((mask[kept], mask.new_ones(len(live), 1)), 1)
            positions = positions[kept, -1:] + 1
        return [coder.answer(row).strip() for row in written]


class Encoder:
    """E: an encoder of the shape of GLiNER-base with random weights, for its time
    only: types and words through DeBERTa-v3-base once, no span scoring. A lower
    bound of what GLiNER takes."""

    def __init__(
        self, student: LocalStudent, *, dtype: torch.dtype, rows: int = 8
    ) -> None:
        self.student, self.rows = student, rows
        config = DebertaV2Config(
            vocab_size=2000,  # a lookup takes the same time in any table
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            relative_attention=True,
            position_buckets=256,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            max_relative_positions=-1,
            position_biased_input=False,
            type_vocab_size=0,
        )
        self.model = DebertaV2Model(config).to(dtype).eval()

    def __call__(self, asked: Sequence[Asked]) -> Answers:
        # GLiNER: a marker and about two pieces per type, a separator, the text
        lengths = [
            3 * len(types) + 1 + self.student.count_tokens(passage)
            for passage, types in asked
        ]
        order = sorted(range(len(asked)), key=lambda i: lengths[i])
        with torch.inference_mode():
            for at in range(0, len(order), self.rows):
                batch = [lengths[i] for i in order[at : at + self.rows]]
                ids = torch.ones((len(batch), max(batch)), dtype=torch.long)
                mask = torch.arange(max(batch))[None] < torch.tensor(batch)[:, None]
                self.model(ids, attention_mask=mask.long())
        return []


class BlankNer:
    """F: spaCy's own `ner`, untrained, with as many labels: the floor."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.nlp = spacy.blank("en")
        ner = self.nlp.add_pipe("ner")
        for label in asked[0][1]:
            ner.add_label(label)
        self.nlp.initialize()

    def __call__(self, asked: Sequence[Asked]) -> Answers:
        for _ in self.nlp.pipe(passage for passage, _ in asked):
            pass
        return []


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> Sequence[torch.Tensor]:
    """RETURNS (Sequence[torch.Tensor]): Token IDs and mask. Shapes: (n_rows, width)"""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return ids, mask


def peer_makers(
    student: LocalStudent, asked: Sequence[Asked]
) -> Dict[str, Callable[[], Callable]]:
    """Tell how to set each peer up.

    student (LocalStudent): Whose weights the generative ones use.
    asked (Sequence[Asked]): What will be asked.
    RETURNS (Dict[str, Callable]): Name -> maker of the peer.
    """
    lengths = Lengths(student, asked)
    return {
        "tree": lambda: Tree(student),
        "A one prompt per type": lambda: Padded(student, lengths, rows=1),
        "B left-padded batches of 64": lambda: Padded(student, lengths, rows=64),
        "C prefix cache per passage": lambda: PrefixCache(student, lengths),
        "E GLiNER-base-shaped encoder, fp32": lambda: Encoder(
            student, dtype=torch.float32
        ),
        "E GLiNER-base-shaped encoder, bf16": lambda: Encoder(
            student, dtype=torch.bfloat16
        ),
        "F blank spaCy ner": lambda: BlankNer(asked),
    }


def make_peers(student: LocalStudent, asked: Sequence[Asked]) -> Dict[str, Callable]:
    """RETURNS (Dict[str, Callable]): All peers, set up. For arguments see `peer_makers`."""
    return {name: make() for name, make in peer_makers(student, asked).items()}
