"""The slow, obviously right path: one prompt at a time, plain greedy `generate`,
the official way of reading. Tests and benchmarks hold every faster path against it.
"""

from typing import List, Sequence

from ..answers import read_official
from ..types import Answer, Mention, Question
from .local import LocalStudent


class ReferenceStudent:
    """Answers as the official code does: no constraint, no batch, no scores."""

    def __init__(self, local: LocalStudent) -> None:
        """Share the checkpoint of a local student.

        local (LocalStudent): Whose weights and tokenizer to use.
        """
        self.local = local

    @property
    def max_passage_tokens(self) -> int:
        """RETURNS (int): Longest passage, in tokens."""
        return self.local.max_passage_tokens

    def count_tokens(self, text: str) -> int:
        """RETURNS (int): Length of a text, in tokens."""
        return self.local.count_tokens(text)

    def __call__(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer questions, one after another.

        questions (Sequence[Question]): Passages, each with its types.
        RETURNS (List[List[Answer]]): For each passage one answer per type, in order.
        """
        return [[self._ask(p, t) for t in types] for p, types in questions]

    def _ask(self, passage: str, entity_type: str) -> Answer:
        ids = self.generate(passage, entity_type)
        text = self.local.coder.answer(ids).strip()
        mentions = tuple(Mention(m) for m in read_official(text))
        return Answer(mentions, certified=True, text=text)

    def generate(self, passage: str, entity_type: str) -> List[int]:
        """Write one answer without any help.

        passage (str): The text that is asked about.
        entity_type (str): The type.
        RETURNS (List[int]): Token IDs of the answer.
        """
        import torch

        coder, model = self.local.coder, self.local.model
        prefix = coder.prefix(passage, self.local.dataset)
        prompt = prefix + coder.question(entity_type)
        ids = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.local.max_new_tokens,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                eos_token_id=coder.end,
                pad_token_id=coder.end,
            )
        return out[0, len(prompt) :].tolist()
