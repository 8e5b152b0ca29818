"""Plain greedy answers by left-padded batches, for checkpoints whose tokenizer does
not keep the list syntax in single pieces, such as the released ones.

One prompt per (passage, type), no constraint; finished prompts leave the batch.
"""

from typing import TYPE_CHECKING, List, Sequence

from .tree import Written

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def write_greedy(
    model: "LlamaForCausalLM",
    prompts: Sequence[Sequence[int]],
    *,
    end: int,
    max_new_tokens: int,
) -> List[Written]:
    """Write the answers to a batch of prompts.

    model (LlamaForCausalLM): The model.
    prompts (Sequence[Sequence[int]]): Token IDs. Shape: (n_prompts, ragged)
    end (int): Token ID that ends an answer.
    max_new_tokens (int): Longest answer, in tokens.
    RETURNS (List[Written]): One answer per prompt.
    """
    import torch
    from transformers import DynamicCache

    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), end)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    written = [Written() for _ in prompts]
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
            best = logits.float().softmax(-1).max(-1)
            for i, p, token in zip(live, best.values.tolist(), best.indices.tolist()):
                written[i].ids.append(token)
                written[i].probabilities.append(p)
                written[i].finished = token == end
            going = [row for row, i in enumerate(live) if not written[i].finished]
            if not going:
                break
            kept = torch.tensor(going, device=model.device)
            if len(going) < len(live):
                cache.batch_select_indices(kept)
                live = [live[row] for row in going]
            ids = best.indices[kept][:, None]
            mask = torch.cat((mask[kept], mask.new_ones(len(live), 1)), 1)
            positions = positions[kept, -1:] + 1
    return written
