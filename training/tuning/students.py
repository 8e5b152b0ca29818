"""Students that learn: made from a checkpoint or from chance, and written as checkpoints."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from spacy_uniner.students.checkpoint import find_checkpoint, load_model
from spacy_uniner.students.coding import Coder
from spacy_uniner.students.copying import SYNTAX_PIECES

from ..files import InputError, write_json
from . import fused, pretrained
from .recipe import Lora, Recipe, RowSettings, WindowSettings

SHARD = "15MB"  # of weights, so that each file goes through narrow doors
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
LORA_TARGETS += ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Trainee:
    """A student that learns.

    module (nn.Module): Takes a batch as tensors, gives sums of losses. Shape: (5,)
    as_tensors (Callable): Turns a batch into tensors on a device.
    config (LlamaConfig): Of the checkpoint.
    named (Callable): Turns the module's state into weights by their transformers names.
    """

    module: nn.Module
    as_tensors: Callable[[Any, torch.device], Dict[str, Tensor]]
    config: LlamaConfig
    named: Callable[[Dict[str, Tensor]], Dict[str, Tensor]]


def make_trainee(recipe: Recipe, coder: Coder) -> Trainee:
    """Make the student that a recipe asks for.

    recipe (Recipe): The settings.
    coder (Coder): Tokenizer and template.
    RETURNS (Trainee): The student.
    RAISES (InputError): If the checkpoint and the tokenizer do not go together, or the
        settings do not suit the student.
    """
    config = _config(recipe, coder)
    vocabulary = coder.tokenizer.get_vocab_size()
    if vocabulary > config.vocab_size:
        raise InputError(
            f"The tokenizer has {vocabulary:,} pieces, and {recipe.finetune.init} knows "
            f"{config.vocab_size:,}. Give --tokenizer the one that it was trained with."
        )
    config.template = coder.template
    if isinstance(recipe.packing, WindowSettings):
        return _make_fused(recipe, recipe.packing, coder, config)
    return _make_pretrained(recipe, recipe.packing, config)


def _config(recipe: Recipe, coder: Coder) -> LlamaConfig:
    """RETURNS (LlamaConfig): Of the checkpoint that training starts from, or as the
    section `model` says."""
    sizes = recipe.start
    if isinstance(sizes, str):
        path = find_checkpoint(sizes, hub=True).path
        return LlamaConfig.from_pretrained(path, local_files_only=True)
    return LlamaConfig(
        vocab_size=coder.tokenizer.get_vocab_size(),
        hidden_size=sizes.hidden,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=sizes.positions,
        rms_norm_eps=sizes.eps,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.theta},
        tie_word_embeddings=True,
        bos_token_id=coder.tokenizer.token_to_id("<s>"),
        eos_token_id=coder.end,
        pad_token_id=coder.end,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )


def _make_fused(
    recipe: Recipe, windows: WindowSettings, coder: Coder, config: LlamaConfig
) -> Trainee:
    tuning, syntax = recipe.finetune, coder.syntax
    if syntax is None:
        told = " ".join(SYNTAX_PIECES)
        raise InputError(
            f"[windows] needs a tokenizer that keeps {told} in single pieces, such as "
            "`training.vocabulary` makes. Use [rows], or train one."
        )
    if not config.tie_word_embeddings or (
        config.num_key_value_heads != config.num_attention_heads
    ):
        raise InputError(
            f"[windows] trains students with tied embeddings and a key for each head; "
            f"{tuning.init} is none. Use [rows]."
        )
    sizes = fused.Sizes(
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        layers=config.num_hidden_layers,
        inner=config.intermediate_size,
        vocab=config.vocab_size,
        theta=dict(config.rope_parameters or {})["rope_theta"],
        eps=config.rms_norm_eps,
    )
    if tuning.init:
        checkpoint = find_checkpoint(tuning.init, hub=True)
        loaded = load_model(checkpoint, device="cpu", dtype="float32")
        weights = fused.from_transformers(loaded.state_dict(), sizes)
    else:
        generator = torch.Generator().manual_seed(tuning.seed)
        weights = fused.init_weights(sizes, generator)
    config.max_passage_tokens = max(windows.passage) - 2
    torch.manual_seed(tuning.seed)  # adapters begin by chance
    module = fused.FusedLlama(
        weights,
        sizes,
        syntax=[syntax.empty, syntax.open, syntax.next, syntax.close],
        compiled=tuning.compiled,
        dtype=torch.bfloat16 if tuning.precision == "bf16" else torch.float32,
        rank=recipe.lora.rank if recipe.lora else 0,
        scale=recipe.lora.scale if recipe.lora else 1.0,
    )
    return Trainee(
        module,
        fused.as_tensors,
        config,
        lambda state: fused.to_transformers(fused.merged(state, module.scale), sizes),
    )


def _make_pretrained(recipe: Recipe, rows: RowSettings, config: LlamaConfig) -> Trainee:
    tuning, lora = recipe.finetune, recipe.lora
    model: Any
    if tuning.init:
        checkpoint = find_checkpoint(tuning.init, hub=True)
        # what is frozen needs no more than it was saved with
        dtype = "bfloat16" if lora and tuning.precision == "bf16" else "float32"
        model = load_model(checkpoint, device="cpu", dtype=dtype)
    else:
        torch.manual_seed(tuning.seed)
        model = LlamaForCausalLM(config).float()
    on_gpu = torch.cuda.is_available()
    model.set_attn_implementation("flex_attention" if on_gpu else "sdpa")
    if lora:
        model = _with_adapters(model, lora, tuning.seed)
    if tuning.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    return Trainee(
        pretrained.PretrainedLlama(model),
        pretrained.as_tensors,
        config,
        lambda state: pretrained.merged(state, lora.scale if lora else 1.0),
    )


def _with_adapters(model: Any, lora: Lora, seed: int) -> Any:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError(
            "[lora] needs the package peft. Install it: pip install 'spacy-uniner[training]'"
        ) from None
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=LORA_TARGETS,
    )
    model = inject_adapter_in_model(settings, model)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.float()
    return model


def write_checkpoint(
    folder: Path,
    config: LlamaConfig,
    weights: Dict[str, Tensor],
    *,
    tokenizer: Path,
    told: Dict[str, Any],
) -> None:
    """Write a checkpoint that transformers and the component load, whole or not at all.

    folder (Path): Where to; what stands there is replaced.
    config (LlamaConfig): Its config.
    weights (Dict[str, Tensor]): Name -> weight, saved as bf16.
    tokenizer (Path): Folder of the tokenizer.
    told (Dict[str, Any]): How it was made: `training.json`.
    """
    from huggingface_hub import save_torch_state_dict

    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    config.save_pretrained(part)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, part / name)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    half = {
        n: w.to(torch.bfloat16).contiguous()
        for n, w in weights.items()
        if n not in tied
    }
    size = sum(w.numel() for w in half.values()) * 2
    shard = SHARD if size > 2**26 and size < 2**30 else "5GB"
    save_torch_state_dict(half, part, max_shard_size=shard)
    write_json(part / "training.json", told)
    aside = put_aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        os.replace(folder, aside)
    os.replace(part, folder)
    shutil.rmtree(aside, ignore_errors=True)


def put_aside(folder: Path) -> Path:
    """RETURNS (Path): Where a checkpoint waits until another has taken its place."""
    return folder.with_name(f"{folder.name}.old")
