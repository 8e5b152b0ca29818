"""The forward of a LLaMA over trees of tokens.

Tokens of many groves lie side by side in one matrix, so products are large and only
their ends are padded, to shapes that repeat; attention goes grove by grove, over keys and values that stay
where they were written. Projections are fused. Knows nothing of prompts,
answers or which tokens matter: `tree` decides that.
"""

import sys
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

Slots = Union[slice, "Tensor"]
# what numbers of rows are rounded up to: in products, in attention, and in the head
TOKENS_STEP, QUERIES_STEP, PLACES_STEP = 128, 32, 32
# rows of a product on a processor, at most: with few shapes, and no block of memory
# much larger than others, the memory of a long stream stays level
BLOCK = 6 * TOKENS_STEP


def pad(row: np.ndarray, step: int) -> np.ndarray:
    """Pad to a round number: libraries prepare, and keep, a product for every shape
    they meet, which costs time and, in a long stream, gigabytes.

    row (np.ndarray): Shape: (n,)
    step (int): What is rounded up to.
    RETURNS (np.ndarray): With zeros at its end. Shape: (n_padded,)
    """
    return np.pad(row, (0, -len(row) % step))


class Projection(NamedTuple):
    """A linear map, as `torch.nn.functional.linear` takes it."""

    weight: "Tensor"
    bias: Optional["Tensor"]


@dataclass(frozen=True)
class Layer:
    """The weights of one layer, fused where they read the same input."""

    norm_in: "Tensor"
    qkv: Projection
    out: Projection
    norm_mid: "Tensor"
    gate_up: Projection
    down: Projection


class Memory:
    """Keys and values of a grove, in slots that are written in any order."""

    def __init__(self, llama: "Llama", n_slots: int) -> None:
        """Make room.

        llama (Llama): Whose keys and values.
        n_slots (int): Tokens that fit.
        """
        self.llama = llama
        self.n_slots = n_slots
        self.layers = [self._room(layer, n_slots) for layer in llama.layers]

    def _room(self, layer: Layer, n_slots: int) -> "Tensor":
        shape = (2, self.llama.kv_heads, n_slots, self.llama.head_size)
        # what was never written is masked, but must be a number even so
        return layer.norm_in.new_zeros(shape)

    def grow(self, n_slots: int) -> None:
        """Make more room, and keep what is there.

        n_slots (int): Tokens that fit from now on.
        """
        for i, layer in enumerate(self.llama.layers):
            old = self.layers[i]
            if old.shape[2] < n_slots:  # not if an earlier try came so far
                room = self._room(layer, n_slots)
                room[:, :, : old.shape[2]] = old
                self.layers[i] = room
        self.n_slots = n_slots


@dataclass(frozen=True)
class Reading:
    """New tokens of one grove.

    memory (Memory): Its keys and values.
    ids (np.ndarray): Token IDs. Shape: (n_tokens,)
    positions (np.ndarray): Shape: (n_tokens,)
    slots (np.ndarray): Where their keys and values go. Shape: (n_tokens,)
    visible (np.ndarray): The slots that each sees, its own included; the width is
        at least the number of slots in use. Shape: (n_tokens, n_used)
    """

    memory: Memory
    ids: np.ndarray
    positions: np.ndarray
    slots: np.ndarray
    visible: np.ndarray


class Llama:
    """A transformers LLaMA, read by trees."""

    def __init__(self, model: "LlamaForCausalLM") -> None:
        """Fuse projections. The model keeps working: its weights become views.

        model (LlamaForCausalLM): The model. Its layers may lie on several devices.
        """
        config = model.config
        self.model = model
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads or self.heads
        self.head_size: int = config.head_dim or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.activate = model.model.layers[0].mlp.act_fn
        self.device, self.dtype = model.device, model.dtype
        self.block = BLOCK if self.device.type == "cpu" else sys.maxsize
        self.layers: List[Layer] = []
        for block in model.model.layers:
            at, mlp = block.self_attn, block.mlp
            self.layers.append(
                Layer(
                    block.input_layernorm.weight,
                    _fuse([at.q_proj, at.k_proj, at.v_proj]),
                    _fuse([at.o_proj]),
                    block.post_attention_layernorm.weight,
                    _fuse([mlp.gate_proj, mlp.up_proj]),
                    _fuse([mlp.down_proj]),
                )
            )

    def read(self, readings: Sequence[Reading]) -> "Tensor":
        """Read new tokens of some groves, and remember them.

        readings (Sequence[Reading]): The tokens, each grove once.
        RETURNS (Tensor): Last hidden states, grove after grove, before the last
            norm, in fp32; some of padding follow. Shape: (n_tokens + n, hidden)
        """
        import torch
        from torch.nn.functional import linear

        body = self.model.model
        ids = pad(np.concatenate([r.ids for r in readings]), TOKENS_STEP)
        positions = pad(np.concatenate([r.positions for r in readings]), TOKENS_STEP)
        embedded = body.embed_tokens(torch.from_numpy(ids).to(self.device))
        places = torch.from_numpy(positions)[None].to(embedded.device)
        cos, sin = body.rotary_emb(embedded, places)
        half = self.head_size // 2  # cosines and sines come twice
        # on several devices, rotary_emb lies where the last layer does
        rotary = tuple(t[0, :, None, :half].to(embedded.device) for t in (cos, sin))
        x = embedded.float()  # the residual stream: cheaper to norm, and more exact
        parts = [self._prepare(reading) for reading in readings]
        n_rotated = self.heads + self.kv_heads
        for i, layer in enumerate(self.layers):
            device = layer.norm_in.device
            if x.device != device:
                x, rotary = x.to(device), (rotary[0].to(device), rotary[1].to(device))
                parts = [
                    (s if isinstance(s, slice) else s.to(device), m.to(device))
                    for s, m in parts
                ]
            fused = [
                linear(self._norm(rows, layer.norm_in), *layer.qkv)
                for rows in x.split(self.block)
            ]
            heads = torch.cat(fused).view(len(x), -1, self.head_size)
            turned = _rotate(heads[:, :n_rotated], *rotary)
            mixed = self._attend(
                [reading.memory.layers[i] for reading in readings],
                parts,
                [len(reading.ids) for reading in readings],
                turned[:, : self.heads],
                turned[:, self.heads :],
                heads[:, n_rotated:],
            )
            for rows, part in zip(
                x.split(self.block), mixed.flatten(1).split(self.block)
            ):
                rows += linear(part, *layer.out)
            for rows in x.split(self.block):
                wide = linear(self._norm(rows, layer.norm_mid), *layer.gate_up)
                gate, up = wide.chunk(2, 1)
                rows += linear(self.activate(gate).mul_(up), *layer.down)
        return x

    def logits(self, hidden: "Tensor", places: Sequence[int]) -> "Tensor":
        """Compute logits where they are needed.

        hidden (Tensor): What `read` returned. Shape: (n_tokens, hidden)
        places (Sequence[int]): Tokens after which a choice is made.
        RETURNS (Tensor): In fp32. Shape: (n_places, n_vocab)
        RAISES (FloatingPointError): If they are not numbers.
        """
        import torch

        padded = torch.from_numpy(pad(np.array(places), PLACES_STEP))
        chosen = hidden[padded.to(hidden.device)]
        weight, head = self.model.model.norm.weight, self.model.lm_head
        chosen = self._norm(chosen.to(weight.device), weight)
        logits = head(chosen.to(head.weight.device))[: len(places)].float()
        if not logits.amax(-1).isfinite().all():  # the cheapest look at all of them
            raise FloatingPointError
        return logits

    def _prepare(self, reading: Reading) -> Tuple[Slots, "Tensor"]:
        """Give slots and mask to torch, once for all layers."""
        import torch

        extra = -len(reading.ids) % QUERIES_STEP
        visible = np.pad(reading.visible, ((0, extra), (0, 0)))
        mask = torch.zeros(visible.shape, dtype=self.dtype)
        hidden = torch.from_numpy(visible).logical_not_()
        mask.masked_fill_(hidden, torch.finfo(self.dtype).min)
        first, last = int(reading.slots[0]), int(reading.slots[-1])
        if (np.diff(reading.slots) == 1).all():  # a passage that is new: no scattering
            slots: Slots = slice(first, last + 1)
        else:
            slots = torch.from_numpy(reading.slots).to(self.device)
        return slots, mask[None].to(self.device)

    def _attend(
        self,
        memories: Sequence["Tensor"],
        parts: Sequence[Tuple[Slots, "Tensor"]],
        sizes: Sequence[int],
        q: "Tensor",
        k: "Tensor",
        v: "Tensor",
    ) -> "Tensor":
        """Attend grove by grove.

        memories (Sequence[Tensor]): Keys and values of each grove.
            Shape: (2, kv_heads, n_slots, head_size)
        parts (Sequence[Tuple[Slots, Tensor]]): Slots and mask of each; the mask has
            rows for padding.
        sizes (Sequence[int]): Tokens of each.
        q, k, v (Tensor): Shapes: (n_tokens, heads or kv_heads, head_size)
        RETURNS (Tensor): Shape: (n_tokens, heads, head_size)
        """
        from torch.nn.functional import pad as rows_padded
        from torch.nn.functional import scaled_dot_product_attention

        mixed = q.new_zeros(q.shape)  # padding attends to nothing
        shared = self.kv_heads != self.heads
        start = 0
        for memory, (slots, mask), n in zip(memories, parts, sizes):
            end = start + n
            for kept, new in zip(memory, (k, v)):
                heads = new[start:end].transpose(0, 1)
                if isinstance(slots, slice):
                    kept[:, slots] = heads
                else:
                    kept.index_copy_(1, slots, heads)
            used = memory[:, None, :, : mask.shape[-1]]
            asking = rows_padded(q[start:end], (0, 0, 0, 0, 0, mask.shape[1] - n))
            mixed[start:end] = scaled_dot_product_attention(
                asking[None].transpose(1, 2),
                used[0],
                used[1],
                attn_mask=mask[None],
                enable_gqa=shared,
            )[0, :, :n].transpose(0, 1)
            start = end
        return mixed

    def _norm(self, x: "Tensor", weight: "Tensor") -> "Tensor":
        """Norm the residual stream, for a projection to read."""
        from torch.nn.functional import rms_norm

        return rms_norm(x, (x.shape[-1],), eps=self.eps).to(weight.dtype).mul_(weight)


def _rotate(x: "Tensor", cos: "Tensor", sin: "Tensor") -> "Tensor":
    """Apply rotary positions, halves as transformers pairs them.

    x (Tensor): Shape: (n_tokens, n, head_size)
    cos, sin (Tensor): Shape: (n_tokens, 1, head_size / 2)
    RETURNS (Tensor): Shape: (n_tokens, n, head_size)
    """
    import torch

    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    out = torch.empty_like(x)
    torch.mul(a, cos, out=out[..., :half]).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=out[..., half:]).addcmul_(a, sin)
    return out


def _fuse(projections: Sequence[Any]) -> Projection:
    """Lay the weights of projections one after another, with no second copy."""
    import torch

    if len(projections) == 1:
        return Projection(projections[0].weight, projections[0].bias)
    weight = torch.cat([p.weight.detach() for p in projections])
    biases = [p.bias.detach() for p in projections if p.bias is not None]
    start = 0
    for projection in projections:
        end = start + len(projection.weight)
        projection.weight.data = weight[start:end]
        start = end
    return Projection(weight, torch.cat(biases) if biases else None)
