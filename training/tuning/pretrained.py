"""Any LLaMA of transformers, whole or by low-rank adapters, that learns from packed rows.

The head is applied only where a loss is taken. The mask is a FlexAttention block mask
on a GPU and a dense one on a processor; both come from `rows.visible`.
"""

from typing import TYPE_CHECKING, Any, Dict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .examples import COPY, START, WHICH
from .rows import Batch, visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PretrainedLlama(nn.Module):
    """A transformers model and its losses."""

    def __init__(self, model: "PreTrainedModel") -> None:
        """Set up.

        model (PreTrainedModel): The model, perhaps with adapters in it.
        """
        super().__init__()
        self.model = model

    def forward(self, batch: Dict[str, Tensor]) -> Tensor:
        """Take the losses of a batch.

        batch (Dict[str, Tensor]): A `rows.Batch` as tensors.
        RETURNS (Tensor): Sums over places, in nats: start, which and copy among legal
            tokens; passage and answer over the whole vocabulary. Shape: (5,)
        """
        x = self.model.get_decoder()(
            input_ids=batch["tokens"],
            position_ids=batch["position"],
            attention_mask=attention_mask(
                batch, self.model.config._attn_implementation
            ),
            use_cache=False,
        ).last_hidden_state.flatten(0, 1)
        head = self.model.get_output_embeddings()
        logits = head(x[batch["answers.at"]]).float()
        lost = F.cross_entropy(logits, batch["answers.token"], reduction="none")
        among = torch.zeros_like(lost)
        if len(batch["legal"]):
            barred = torch.ones_like(logits, dtype=torch.bool)
            barred[batch["legal_of"], batch["legal"]] = False
            # where nobody asked, everything would be barred
            barred &= (batch["kinds"] > 0)[:, None]
            narrowed = logits.masked_fill(barred, -torch.inf)
            among = F.cross_entropy(narrowed, batch["answers.token"], reduction="none")
        sums = [among[batch["kinds"] == kind].sum() for kind in (START, WHICH, COPY)]
        logits = head(x[batch["passages.at"]]).float()
        said = F.cross_entropy(logits, batch["passages.token"], reduction="sum")
        return torch.stack([*sums, said, lost.sum()])


def merged(state: Dict[str, Tensor], scale: float) -> Dict[str, Tensor]:
    """Add adapters to the weights that they stand beside.

    state (Dict[str, Tensor]): The state of a `PretrainedLlama`.
    scale (float): What the adapters' product is multiplied by.
    RETURNS (Dict[str, Tensor]): Weights by their transformers names.
    """
    state = {name.removeprefix("model."): w for name, w in state.items()}
    out = {}
    for name, weight in state.items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer", "")
        if plain != name:
            stem = plain.removesuffix(".weight")
            a = state[f"{stem}.lora_A.default.weight"].float()
            b = state[f"{stem}.lora_B.default.weight"].float()
            weight = weight.float() + scale * (b @ a)
        out[plain] = weight
    return out


def attention_mask(batch: Dict[str, Tensor], attention: str) -> Any:
    """Say which tokens see which.

    batch (Dict[str, Tensor]): A `rows.Batch` as tensors.
    attention (str): Of the model, as transformers names it.
    RETURNS (Any): A `BlockMask` for "flex_attention", else booleans.
        Shape: (n_rows, 1, L, L)
    """
    passage, branch = batch["passage"], batch["branch"]
    n, length = passage.shape
    if attention == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def sees(row: Tensor, head: Tensor, at: Tensor, key: Tensor) -> Tensor:
            there = passage[row, key], branch[row, key]
            return visible(passage[row, at], branch[row, at], *there, key > at)

        return create_block_mask(sees, n, None, length, length, device=passage.device)
    places = torch.arange(length, device=passage.device)
    return visible(
        passage[:, :, None],
        branch[:, :, None],
        passage[:, None],
        branch[:, None],
        places[None, None] > places[None, :, None],
    )[:, None]


def as_tensors(batch: Batch, device: torch.device) -> Dict[str, Tensor]:
    """RETURNS (Dict[str, Tensor]): A batch, for a student on a device."""
    fields = batch._asdict()
    fields.pop("n_questions")
    for name in ("answers", "passages"):
        targets = fields.pop(name)
        fields.update({f"{name}.at": targets.at, f"{name}.token": targets.token})
    return {name: torch.from_numpy(array).to(device) for name, array in fields.items()}
