"""A LLaMA for training on windows of branches, with the weights of a transformers model.

The same function as `LlamaForCausalLM` under a block mask, several times faster
on a processor: fused projections, no dense mask, no logits that no loss needs.
`tests/test_tuning.py` holds the two against each other.
"""

import math
from typing import Dict, List, NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .examples import COPY, START, WHICH
from .windows import Batch

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


class FusedLlama(nn.Module):
    """A LLaMA with tied embeddings and a head for each key, that learns from windows."""

    syntax: Tensor

    def __init__(
        self,
        weights: Dict[str, Tensor],
        sizes: Sizes,
        *,
        syntax: List[int],
        compiled: bool,
        dtype: torch.dtype = torch.bfloat16,
        rank: int = 0,
        scale: float = 1.0,
    ) -> None:
        """Set up.

        weights (Dict[str, Tensor]): Fused weights, fp32.
        sizes (Sizes): The numbers of the model.
        syntax (List[int]): Token IDs of the list syntax, in column order.
        compiled (bool): Whether layers run through `torch.compile`, which needs
            a C++ compiler and pays for runs of more than some minutes.
        dtype (torch.dtype): Of matrix products.
        rank (int): Of adapters, which are then all that is trained; 0 for none.
        scale (float): What the product of two adapters is multiplied by.
        """
        super().__init__()
        self.sizes, self.dtype, self.compiled = sizes, dtype, compiled
        self.scale = scale
        # dots are not allowed in the names of parameters
        self.weights = nn.ParameterDict(
            {name.replace(".", ":"): nn.Parameter(w) for name, w in weights.items()}
        )
        if rank:
            self.requires_grad_(False)
            for name, weight in list(self.weights.items()):
                if weight.ndim == 2 and name != "embed":
                    out, size = weight.shape
                    down = torch.randn(rank, size) / math.sqrt(size)
                    self.weights[f"{name}:down_to"] = nn.Parameter(down)
                    self.weights[f"{name}:up_from"] = nn.Parameter(
                        torch.zeros(out, rank)
                    )
        self.register_buffer("syntax", torch.tensor(syntax), persistent=False)

    def hidden(self, weights: Dict[str, Tensor], batch: Dict[str, Tensor]) -> Tensor:
        """Run the model.

        weights (Dict[str, Tensor]): Fused weights, all in the type of matrix products
            but the embeddings, which may be fp32.
        batch (Dict[str, Tensor]): A `windows.Batch` as tensors.
        RETURNS (Tensor): Last hidden states. Shape: (n_rows, P + Q, hidden)
        """
        dtype, device = weights["norm"].dtype, batch["passage"].device
        n, p = batch["passage"].shape
        ids = torch.cat((batch["passage"], batch["branches"]), 1)
        own = torch.arange(p, device=device)
        after = batch["lengths"][:, None] + batch["place"].flatten(1)
        positions = torch.cat((own.expand(n, p), after), 1)
        half = self.sizes.hidden // self.sizes.heads // 2
        steps = self.sizes.theta ** (-torch.arange(half, device=device) / half)
        angles = (positions[:, None, :, None] * steps).float()
        rotary = angles.cos().to(dtype), angles.sin().to(dtype)
        causal = torch.full((p, p), NEGATIVE, dtype=dtype, device=device).triu(1)
        beyond = own[None] >= batch["lengths"][:, None]
        padding = beyond[:, None, None].to(dtype) * NEGATIVE
        owner, place = batch["owner"], batch["place"]
        same = owner[..., :, None] == owner[..., None, :]
        earlier = place[..., None, :] <= place[..., :, None]
        block = (~(same & earlier))[:, None].to(dtype) * NEGATIVE
        x = F.embedding(ids, weights["embed"]).float()
        # what is not trained on comes in other shapes, each of which would be compiled
        compiled = self.compiled and torch.is_grad_enabled()
        run_layer = _compiled_layer if compiled else layer
        for i in range(self.sizes.layers):
            names = ("norm_in", "qkv", "out", "norm_mid", "gate_up", "down")
            x = run_layer(
                x,
                [weights[f"{i}.{name}"] for name in names],
                rotary,
                (causal, padding, block),
                self.sizes.heads,
                self.sizes.eps,
            )
        return rms_norm(x, weights["norm"], self.sizes.eps)

    def forward(self, batch: Dict[str, Tensor]) -> Tensor:
        """Take the losses of a batch.

        batch (Dict[str, Tensor]): A `windows.Batch` as tensors.
        RETURNS (Tensor): Sums over places, in nats: start, which and copy among legal
            pieces; passage and answer over the whole vocabulary. Shape: (5,)
        """
        # the gradient of a frequent piece is a sum too long for bf16
        weights = {
            name: weight if name == "embed" else weight.to(self.dtype)
            for name, weight in merged(
                dict(self.named_parameters()), self.scale
            ).items()
        }
        x = self.hidden(weights, batch)
        p = batch["passage"].shape[1]
        columns = torch.cat((self.syntax.expand(len(x), -1), batch["options"]), 1)
        keys = F.embedding(columns, weights["embed"]).to(x.dtype)
        scores = (x[:, p:] @ keys.transpose(1, 2)).float()
        logp = scores.masked_fill(~batch["legal"], NEGATIVE).log_softmax(-1)
        chosen = batch["chosen"].clamp(min=0)[..., None]
        lost = -logp.gather(-1, chosen)[..., 0]
        sums = [lost[batch["kind"] == kind].sum() for kind in (START, WHICH, COPY)]
        embed = weights["embed"].to(x.dtype)
        for hidden, following in (
            (x[:, :p], batch["next_passage"]),
            (x[:, p:], batch["next_branch"]),
        ):
            known = following >= 0
            logits = F.linear(hidden[known], embed).float()
            sums.append(F.cross_entropy(logits, following[known], reduction="sum"))
        return torch.stack(sums)


_compiled_layer = torch.compile(layer, dynamic=False)


def merged(state: Dict[str, Tensor], scale: float) -> Dict[str, Tensor]:
    """Add adapters, if there are any, to the weights that they stand beside.

    state (Dict[str, Tensor]): The parameters of a `FusedLlama`.
    scale (float): What the product of two adapters is multiplied by.
    RETURNS (Dict[str, Tensor]): Fused weights by their names.
    """
    plain = {n.removeprefix("weights.").replace(":", "."): w for n, w in state.items()}
    out = {}
    for name, weight in plain.items():
        if name.endswith((".down_to", ".up_from")):
            continue
        if f"{name}.up_from" in plain:
            added = plain[f"{name}.up_from"] @ plain[f"{name}.down_to"]
            weight = weight + scale * added
        out[name] = weight
    return out


def as_tensors(batch: Batch, device: torch.device) -> Dict[str, Tensor]:
    """RETURNS (Dict[str, Tensor]): A batch, for a student on a device."""
    arrays = batch._asdict().items()
    return {name: torch.from_numpy(array).to(device) for name, array in arrays}
