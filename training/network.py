"""A LLaMA forward for training on branches, with the weights of a transformers model.

The same function as `LlamaForCausalLM` under a block mask, several times faster
on a processor: fused projections, no dense mask, no logits that no loss needs.
`tests/test_training.py` holds the two against each other.
"""

import math
from typing import Dict, List, NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEGATIVE = -1e4  # in place of minus infinity, safe in bf16


class Sizes(NamedTuple):
    """The numbers that a forward needs, from a `LlamaConfig`."""

    hidden: int
    heads: int
    layers: int
    inner: int
    vocab: int
    theta: float
    eps: float


def init_weights(sizes: Sizes, generator: torch.Generator) -> Dict[str, Tensor]:
    """Draw the weights of a new student, projections fused.

    sizes (Sizes): The numbers of the model.
    generator (torch.Generator): Where chance comes from.
    RETURNS (Dict[str, Tensor]): Name -> fp32 weight.
    """

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        std = scale / math.sqrt(shape[-1])
        return torch.randn(*shape, generator=generator) * std

    d, inner = sizes.hidden, sizes.inner
    depth = 1 / math.sqrt(2 * sizes.layers)
    weights = {"embed": normal(sizes.vocab, d), "norm": torch.ones(d)}
    for i in range(sizes.layers):
        weights[f"{i}.norm_in"] = torch.ones(d)
        weights[f"{i}.qkv"] = normal(3 * d, d)
        weights[f"{i}.out"] = normal(d, d, scale=depth)
        weights[f"{i}.norm_mid"] = torch.ones(d)
        weights[f"{i}.gate_up"] = normal(2 * inner, d)
        weights[f"{i}.down"] = normal(d, inner, scale=depth)
    return weights


def to_transformers(weights: Dict[str, Tensor], sizes: Sizes) -> Dict[str, Tensor]:
    """Name weights as `LlamaForCausalLM` with tied embeddings does.

    weights (Dict[str, Tensor]): Fused weights.
    sizes (Sizes): The numbers of the model.
    RETURNS (Dict[str, Tensor]): Name -> bf16 weight.
    """
    out = {
        "model.embed_tokens.weight": weights["embed"],
        "model.norm.weight": weights["norm"],
    }
    for i in range(sizes.layers):
        q, k, v = weights[f"{i}.qkv"].chunk(3)
        gate, up = weights[f"{i}.gate_up"].chunk(2)
        layer = {
            "input_layernorm": weights[f"{i}.norm_in"],
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": weights[f"{i}.out"],
            "post_attention_layernorm": weights[f"{i}.norm_mid"],
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": weights[f"{i}.down"],
        }
        out.update({f"model.layers.{i}.{name}.weight": w for name, w in layer.items()})
    return {name: w.detach().to(torch.bfloat16).contiguous() for name, w in out.items()}


def from_transformers(found: Dict[str, Tensor], sizes: Sizes) -> Dict[str, Tensor]:
    """Fuse the weights of a `LlamaForCausalLM` with tied embeddings.

    found (Dict[str, Tensor]): Weights by their transformers names.
    sizes (Sizes): The numbers of the model.
    RETURNS (Dict[str, Tensor]): Name -> fp32 weight.
    """
    out = {"embed": found["model.embed_tokens.weight"]}
    out["norm"] = found["model.norm.weight"]
    for i in range(sizes.layers):

        def get(*names: str, prefix: str = f"model.layers.{i}.") -> Tensor:
            return torch.cat([found[f"{prefix}{name}.weight"] for name in names])

        out[f"{i}.norm_in"] = get("input_layernorm")
        out[f"{i}.qkv"] = get(*(f"self_attn.{x}_proj" for x in "qkv"))
        out[f"{i}.out"] = get("self_attn.o_proj")
        out[f"{i}.norm_mid"] = get("post_attention_layernorm")
        out[f"{i}.gate_up"] = get("mlp.gate_proj", "mlp.up_proj")
        out[f"{i}.down"] = get("mlp.down_proj")
    return {name: weight.float() for name, weight in out.items()}


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalize the last axis of the residual stream.

    x (Tensor): In fp32: sums of many layers lose too much in bf16, most of all
        their gradients. Shape: (..., hidden)
    weight (Tensor): Its type is that of the result. Shape: (hidden,)
    RETURNS (Tensor): Shape: (..., hidden)
    """
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps).to(weight.dtype)


def attend(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn scores into weights, with fp32 in between.

    scores (Tensor): Shape: (..., n_keys)
    dtype (torch.dtype): Of the result.
    RETURNS (Tensor): Shape: (..., n_keys)
    """
    return scores.float().softmax(-1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions, halves as transformers pairs them.

    x (Tensor): Shape: (n_rows, heads, n_tokens, head_size)
    cos, sin (Tensor): Shape: (n_rows, 1, n_tokens, head_size / 2)
    RETURNS (Tensor): Shape: (n_rows, heads, n_tokens, head_size)
    """
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def layer(
    x: Tensor,
    weights: List[Tensor],
    rotary: Tuple[Tensor, Tensor],
    masks: Tuple[Tensor, Tensor, Tensor],
    n_heads: int,
    eps: float,
) -> Tensor:
    """One transformer layer over passages and their windows of branches.

    x (Tensor): Residual stream: passage, then windows.
        Shape: (n_rows, P + n_windows * W, hidden)
    weights (List[Tensor]): norm_in, qkv, out, norm_mid, gate_up, down.
    rotary (Tuple[Tensor, Tensor]): Cosines and sines of all positions.
    masks (Tuple[Tensor, Tensor, Tensor]): What is added to scores: passage on
        passage (P, P), windows on passage (n_rows, 1, 1, P), and windows on
        themselves (n_rows, 1, n_windows, W, W).
    RETURNS (Tensor): Shape: (n_rows, P + n_windows * W, hidden)
    """
    norm_in, qkv, out, norm_mid, gate_up, down = weights
    causal, padding, block = masks
    n, s, d = x.shape
    p, n_windows, w = causal.shape[0], block.shape[2], block.shape[3]
    size = d // n_heads
    fused = F.linear(rms_norm(x, norm_in, eps), qkv).view(n, s, 3, n_heads, size)
    q, k, v = fused.permute(2, 0, 3, 1, 4)
    q = rotate(q * size**-0.5, *rotary)
    k = rotate(k, *rotary)
    qp, kp, vp = q[:, :, :p], k[:, :, :p], v[:, :, :p]
    passage = attend(qp @ kp.transpose(-1, -2) + causal, v.dtype) @ vp

    qw, kw, vw = (
        t[:, :, p:].reshape(n, n_heads, n_windows, w, size) for t in (q, k, v)
    )
    on_passage = q[:, :, p:] @ kp.transpose(-1, -2) + padding
    on_self = (qw @ kw.transpose(-1, -2) + block).reshape(n, n_heads, n_windows * w, w)
    a = attend(torch.cat((on_passage, on_self), -1), v.dtype)
    own = a[..., p:].reshape(n, n_heads, n_windows, w, w) @ vw
    windows = a[..., :p] @ vp + own.reshape(n, n_heads, n_windows * w, size)

    mixed = torch.cat((passage, windows), 2).transpose(1, 2).reshape(n, s, d)
    x = x + F.linear(mixed, out)
    gate, up = F.linear(rms_norm(x, norm_mid, eps), gate_up).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, down)


class Network:
    """Forward and losses over batches of branches."""

    def __init__(self, sizes: Sizes, *, compiled: bool) -> None:
        """Set up a forward.

        sizes (Sizes): The numbers of the model.
        compiled (bool): Whether layers run through `torch.compile`, which needs
            a C++ compiler and pays for runs of more than some minutes.
        """
        self.sizes = sizes
        self.fast_layer = torch.compile(layer, dynamic=False) if compiled else layer

    def hidden(self, weights: Dict[str, Tensor], batch: Dict[str, Tensor]) -> Tensor:
        """Run the model.

        weights (Dict[str, Tensor]): Fused weights, all in the type of matrix products
            but the embeddings, which may be fp32.
        batch (Dict[str, Tensor]): A `packing.Batch` as tensors.
        RETURNS (Tensor): Last hidden states. Shape: (n_rows, P + Q, hidden)
        """
        dtype = weights["norm"].dtype
        p = batch["passage"].shape[1]
        ids = torch.cat((batch["passage"], batch["branches"]), 1)
        positions = torch.cat(
            (
                torch.arange(p).expand(len(ids), p),
                batch["lengths"][:, None] + batch["place"],
            ),
            1,
        )
        half = self.sizes.hidden // self.sizes.heads // 2
        steps = self.sizes.theta ** (-torch.arange(half) / half)
        angles = (positions[:, None, :, None] * steps).float()
        rotary = angles.cos().to(dtype), angles.sin().to(dtype)
        causal = torch.full((p, p), NEGATIVE, dtype=dtype).triu(1)
        beyond = torch.arange(p)[None] >= batch["lengths"][:, None]
        padding = beyond[:, None, None].to(dtype) * NEGATIVE
        block = batch["block"][:, None].to(dtype) * NEGATIVE
        x = F.embedding(ids, weights["embed"]).float()
        # what is not trained on comes in other shapes, each of which would be compiled
        run_layer = self.fast_layer if torch.is_grad_enabled() else layer
        for i in range(self.sizes.layers):
            names = ("norm_in", "qkv", "out", "norm_mid", "gate_up", "down")
            mine = [weights[f"{i}.{name}"] for name in names]
            x = run_layer(
                x,
                mine,
                rotary,
                (causal, padding, block),
                self.sizes.heads,
                self.sizes.eps,
            )
        return rms_norm(x, weights["norm"], self.sizes.eps)

    def losses(
        self, weights: Dict[str, Tensor], batch: Dict[str, Tensor], syntax: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Take both losses of a batch.

        weights (Dict[str, Tensor]): Fused weights.
        batch (Dict[str, Tensor]): A `packing.Batch` as tensors.
        syntax (Tensor): Token IDs of the list syntax, in column order. Shape: (4,)
        RETURNS (Tuple[Tensor, Tensor]): Loss of each choice among legal pieces, in
            nats, 0 where nothing is chosen, shape: (n_rows, Q); and the mean
            language-model losses over the whole vocabulary of the rows that have
            one, of passages and of answers. Shape: (2,)
        """
        x = self.hidden(weights, batch)
        p = batch["passage"].shape[1]
        embed = weights["embed"].to(x.dtype)
        columns = torch.cat((syntax.expand(len(x), -1), batch["options"]), 1)
        keys = F.embedding(columns, weights["embed"]).to(x.dtype)
        scores = (x[:, p:] @ keys.transpose(1, 2)).float()
        logp = scores.masked_fill(~batch["legal"], NEGATIVE).log_softmax(-1)
        chosen = batch["chosen"]
        right = logp.gather(-1, chosen.clamp(min=0)[..., None])[..., 0]
        choice = torch.where(chosen >= 0, -right, 0.0)

        language = []
        for hidden, following in (
            (x[:, :p], batch["next_passage"]),
            (x[:, p:], batch["next_branch"]),
        ):
            known = following >= 0
            logits = F.linear(hidden[known], embed).float()
            total = F.cross_entropy(logits, following[known], reduction="sum")
            language.append(total / known.sum().clamp(min=1))
        return choice, torch.stack(language)


def as_tensors(batch: NamedTuple, window: int) -> Dict[str, Tensor]:
    """Give a packed batch to torch, with the mask inside each window.

    batch (packing.Batch): The batch.
    window (int): Length of a window, in pieces.
    RETURNS (Dict[str, Tensor]): Its arrays, and `block`: what a token of a window
        must not see there. Shape: (n_rows, n_windows, W, W)
    """
    out = {name: torch.from_numpy(array) for name, array in batch._asdict().items()}
    n, q = out["branches"].shape
    owner = out["owner"].view(n, q // window, window)
    place = out["place"].view(n, q // window, window)
    same = owner[..., :, None] == owner[..., None, :]
    earlier = place[..., None, :] <= place[..., :, None]
    out["block"] = ~(same & earlier)
    return out
