"""Load a checkpoint: find it, check it, put it on a device. Or say why not.

Safetensors only, no remote code, no hub unless it is asked for. Knows LLaMA
checkpoints; nothing of prompts beyond the name of the template.
"""

import importlib.util
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from ..errors import Errors, Warnings
from ..sums import sha256_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import device as TorchDevice
    from torch import dtype as TorchDtype

SHIPPED = Path(__file__).parent.parent / "mini"
DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
PERMISSIVE = (
    "mit",
    "apache-2.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "bsd-3-clause",
)
NON_COMMERCIAL = "CC BY-NC 4.0, and the terms of LLaMA and of OpenAI (research only)"
FILES = ["*.json", "*.safetensors", "tokenizer.model", "README.md"]


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds a checkpoint of the right kind.

    path (Path): The folder.
    name (str): What the user called it.
    config (Dict[str, Any]): Its `config.json`.
    """

    path: Path
    name: str
    config: Dict[str, Any]

    @property
    def template(self) -> str:
        """RETURNS (str): The template it was trained with; the official one if it
        does not say."""
        return self.config.get("template", "uniner")

    @property
    def n_bytes(self) -> int:
        """RETURNS (int): Size of its weights, in bytes."""
        return sum(file.stat().st_size for file in self.path.glob("*.safetensors"))

    @property
    def licence(self) -> Optional[str]:
        """RETURNS (Optional[str]): The licence its card tells; None if none does."""
        if self.name.lower().startswith("universal-ner/"):
            return NON_COMMERCIAL
        card = self.path / "README.md"
        if card.exists():
            head = card.read_text(encoding="utf8", errors="replace").split("\n---", 1)[
                0
            ]
            told = re.search(r"^license:\s*(\S+)", head, re.MULTILINE)
            return told[1].strip("\"'") if told else None
        return None


_loaded_in: Optional[int] = None  # the process that loaded weights first


def refuse_forks() -> None:
    """Stop in a child that was forked after torch had worked: there it hangs.

    RAISES (RuntimeError): U035, in such a child.
    """
    if _loaded_in not in (None, os.getpid()):
        raise RuntimeError(Errors.U035.format(parent=_loaded_in, child=os.getpid()))


def find_checkpoint(name: str, *, hub: bool = False) -> Checkpoint:
    """Find a checkpoint without loading it.

    name (str): "mini", a folder, or a name on the Hugging Face hub.
    hub (bool): Whether it may be downloaded. If not, a hub name is looked up
        among what was downloaded before.
    RETURNS (Checkpoint): The checkpoint.
    RAISES (ValueError): U030, if there is none; U031, if it is no LLaMA.
    """
    path = SHIPPED if name == "mini" else Path(name)
    if not path.is_dir():
        path = _find_on_hub(name, hub=hub)
    if not (path / "config.json").is_file():
        raise ValueError(Errors.U030.format(path=name, reason="it has no config.json"))
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf8"))
    except ValueError as e:
        reason = f"its config.json is no JSON ({e})"
        raise ValueError(Errors.U030.format(path=name, reason=reason)) from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "llama":
        raise ValueError(Errors.U031.format(path=name, found=kind))
    if not any(path.glob("*.safetensors")):
        raise ValueError(
            Errors.U030.format(path=name, reason="it has no *.safetensors")
        )
    return Checkpoint(path, name, config)


def _find_on_hub(name: str, *, hub: bool) -> Path:
    """Find a hub name in the cache or, if allowed, on the hub."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            Errors.U030.format(path=name, reason="there is no such folder")
        )
    from huggingface_hub import snapshot_download

    try:
        # a checkpoint that holds pickles only leaves nothing behind
        return Path(
            snapshot_download(name, allow_patterns=FILES, local_files_only=not hub)
        )
    except (OSError, ValueError) as e:
        reason = "there is no such folder, and "
        reason += f"the hub gave: {e}" if hub else "no such download (`hub` is false)"
        raise ValueError(Errors.U030.format(path=name, reason=reason)) from e


def verify(checkpoint: Checkpoint) -> None:
    """Hold the files against the manifest, where there is one.

    checkpoint (Checkpoint): The checkpoint.
    RAISES (ValueError): U040, at the first file that differs.
    """
    manifest = checkpoint.path / "manifest.json"
    if not manifest.exists():
        return
    for file, expected in json.loads(manifest.read_text(encoding="utf8")).items():
        path = checkpoint.path / file
        exists = path.is_file()
        found = sha256_of(path) if exists else "no file"
        if found != expected:
            raise ValueError(
                Errors.U040.format(
                    file=file, path=checkpoint.name, expected=expected, found=found
                )
            )


def tell_licence(checkpoint: Checkpoint) -> None:
    """Warn of a licence that may not allow every use.

    checkpoint (Checkpoint): The checkpoint. One that `training.finetune` made and
        that has no card yet says nothing: who trained it knows.
    """
    licence = checkpoint.licence
    if licence is None and (checkpoint.path / "training.json").exists():
        return
    if licence is None or licence.lower() not in PERMISSIVE:
        told = licence or "none stated"
        warnings.warn(
            Warnings.U102.format(model=checkpoint.name, licence=told), stacklevel=2
        )


def load_tokenizer(checkpoint: Checkpoint) -> "Tokenizer":
    """Load the tokenizer.

    checkpoint (Checkpoint): The checkpoint.
    RETURNS (Tokenizer): The tokenizer, of the tokenizers library.
    RAISES (ValueError): U041, if it can't be read.
    """
    from transformers import AutoTokenizer

    try:
        wrapped = AutoTokenizer.from_pretrained(checkpoint.path, local_files_only=True)
        return wrapped.backend_tokenizer
    except (OSError, ValueError, ImportError, AttributeError, KeyError) as e:
        problem = str(e).split("\n")[0]
        raise ValueError(
            Errors.U041.format(path=checkpoint.name, problem=problem)
        ) from e


def load_model(checkpoint: Checkpoint, *, device: str, dtype: str) -> Any:
    """Load the weights, whole and right.

    checkpoint (Checkpoint): The checkpoint.
    device (str): "auto", or a device of torch.
    dtype (str): "auto", "float32", "bfloat16" or "float16".
    RETURNS (LlamaForCausalLM): The model, in evaluation mode.
    RAISES (ValueError): U032, if tensors are missing, mismatched or unreadable;
        U037, if they give logits that are not finite; U040, if a file differs from the
        manifest; U043, if there is no such device; U047, if all GPUs are too small.
        (ImportError): U038.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import LlamaForCausalLM
    from transformers.utils import logging as transformers_logging

    global _loaded_in
    target = choose_device(device)
    verify(checkpoint)
    _loaded_in = os.getpid()
    kind = choose_dtype(dtype, target)
    options: Dict[str, Any] = {
        "dtype": kind,
        "use_safetensors": True,
        "local_files_only": True,
    }
    spread = target.type == "cuda" and _exceeds_one_gpu(checkpoint, target)
    if spread:
        if importlib.util.find_spec("accelerate") is None:
            purpose = "a checkpoint larger than one GPU"
            raise ImportError(
                Errors.U038.format(
                    package="accelerate", purpose=purpose, install="accelerate"
                )
            )
        options["device_map"] = "auto"
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # seconds at most, and not ours to show
    try:
        loaded: Any = LlamaForCausalLM.from_pretrained(
            checkpoint.path, output_loading_info=True, **options
        )
        model, info = loaded
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, RuntimeError, OSError, ValueError) as e:
        problem = str(e).split("\n")[0]
        raise ValueError(
            Errors.U032.format(path=checkpoint.name, problem=problem)
        ) from e
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        wrong = sorted(map(str, info.get(what) or ()))
        if wrong:
            problem = f"{what.replace('_', ' ')}: {', '.join(wrong[:5])}"
            raise ValueError(Errors.U032.format(path=checkpoint.name, problem=problem))
    if not spread:
        model = model.to(target)
    elif any(weight.device.type != "cuda" for weight in model.parameters()):
        gib = checkpoint.n_bytes / 2**30
        raise ValueError(Errors.U047.format(path=checkpoint.name, gib=gib))
    model.eval()
    with torch.inference_mode():
        first = torch.tensor([[checkpoint.config.get("bos_token_id") or 0]])
        logits = model(first.to(model.device)).logits
    if not torch.isfinite(logits).all():
        raise ValueError(Errors.U037.format(path=checkpoint.name, dtype=kind))
    return model


def choose_device(device: str) -> "TorchDevice":
    """Choose where to run.

    device (str): "auto" follows spaCy's choice of GPU, then takes CUDA if there is one.
    RETURNS (torch.device): The device.
    RAISES (ValueError): U043, if this machine has no such device.
    """
    import torch
    from thinc.api import CupyOps, get_current_ops

    if device != "auto":
        found = torch.device(device)
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            reason = f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices"
            raise ValueError(Errors.U043.format(device=device, reason=reason))
        if found.type == "mps" and not torch.backends.mps.is_available():
            reason = f"torch {torch.__version__} sees no Metal"
            raise ValueError(Errors.U043.format(device=device, reason=reason))
        return found
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # `spacy.prefer_gpu(n)` and `--gpu-id n` set cupy's device, and torch's with it
    ops = get_current_ops()
    return torch.device("cuda", ops.device_id if isinstance(ops, CupyOps) else 0)


def choose_dtype(dtype: str, device: "TorchDevice") -> "TorchDtype":
    """Choose the number format.

    dtype (str): "auto" takes bfloat16 where the processor is fast at it.
    device (torch.device): Where to run.
    RETURNS (torch.dtype): The format.
    """
    import torch

    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def _cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively (AMX or AVX512-BF16)."""
    import torch

    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def _exceeds_one_gpu(checkpoint: Checkpoint, device: "TorchDevice") -> bool:
    """Whether the weights leave no room on one of several GPUs."""
    import torch

    if torch.cuda.device_count() < 2:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return checkpoint.n_bytes > 0.85 * free
