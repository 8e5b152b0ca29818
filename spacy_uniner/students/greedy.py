"""Greedy answers by left-padded batches, with the copy constraint and scores.

One prompt per (passage, type); finished prompts leave the batch. Knows token
IDs only: what they mean is decided in `coding`, what may follow in `copying`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from .copying import CopyGuide, CopyState

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM


@dataclass
class Written:
    """An answer in the making.

    ids (List[int]): Token IDs so far.
    probabilities (List[float]): Of each of them: among the legal ones where a
        guide says what is legal, else among all.
    p_empty (float): Probability of the empty list.
    certified (bool): Whether every token was also the best of all tokens.
    finished (bool): Whether it came to its end.
    """

    guide: Optional[CopyGuide]
    ids: List[int] = field(default_factory=list)
    probabilities: List[float] = field(default_factory=list)
    p_empty: float = 0.0
    certified: bool = True
    finished: bool = False
    state: CopyState = CopyState()


def write_answers(
    model: "LlamaForCausalLM",
    prompts: Sequence[Sequence[int]],
    guides: Sequence[Optional[CopyGuide]],
    *,
    end: int,
    max_new_tokens: int,
) -> List[Written]:
    """Write the answers to a batch of prompts.

    model (LlamaForCausalLM): The model.
    prompts (Sequence[Sequence[int]]): Token IDs. Shape: (n_prompts, ragged)
    guides (Sequence[Optional[CopyGuide]]): What each answer may hold; None for anything.
    end (int): Token ID that ends an answer.
    max_new_tokens (int): Longest answer, in tokens.
    RETURNS (List[Written]): One answer per prompt.
    """
    import torch
    from transformers import DynamicCache

    device = model.device
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), end)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    written = [Written(guide) for guide in guides]
    live = list(range(len(prompts)))
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            _choose(logits.float(), [written[i] for i in live], end)
            going = [row for row, i in enumerate(live) if not written[i].finished]
            if not going:
                break
            if len(going) < len(live):
                kept = torch.tensor(going, device=device)
                cache.batch_select_indices(kept)
                mask, positions = mask[kept], positions[kept]
                live = [live[row] for row in going]
            ids = torch.tensor([[written[i].ids[-1]] for i in live], device=device)
            mask = torch.cat((mask, mask.new_ones(len(live), 1)), 1)
            positions = positions[:, -1:] + 1
    return written


def _choose(logits: "Tensor", answers: Sequence[Written], end: int) -> None:
    """Take the best legal token of each answer.

    logits (Tensor): Shape: (n_answers, n_vocab)
    """
    best_of_all = logits.argmax(-1).tolist()
    for row, answer in enumerate(answers):
        if answer.guide is None:
            token = best_of_all[row]
            p = logits[row].log_softmax(-1)[token].exp().item()
        else:
            token, p = _choose_legal(logits[row], answer)
            answer.certified &= token == best_of_all[row]
            answer.state = answer.guide.advance(answer.state, token)
        answer.ids.append(token)
        answer.probabilities.append(p)
        answer.finished = token == end or answer.state.mode == "closed"


def _choose_legal(logits: "Tensor", answer: Written) -> Tuple[int, float]:
    """Choose among what the guide allows; the probability is taken among it."""
    guide = answer.guide
    legal = guide.legal(answer.state)  # type: ignore[union-attr]
    p = logits[legal].softmax(-1)
    best = int(p.argmax())
    if not answer.ids:
        answer.p_empty = p[0].item()
    return legal[best], p[best].item()
