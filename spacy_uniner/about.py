"""What there is to tell people about a student, of whichever kind.

Asks no server, and loads no weights unless it is told to. Knows nothing of terminals.
"""

from typing import Any, Dict

from .students.cache import CachedStudent
from .students.calibration import Calibration
from .students.checkpoint import choose_device, choose_dtype
from .students.local import LocalStudent
from .students.server import ServerStudent


def about(student: object, *, verify: bool = False) -> Dict[str, Any]:
    """Tell about a student.

    student (object): A student.
    verify (bool): Whether to load it, and tell what that shows. Nothing is sent to a
        server either way.
    RETURNS (Dict[str, Any]): Heading -> what is to be told.
    RAISES (ValueError): With `verify`, U032, U033, U040, if a checkpoint is damaged.
    """
    if isinstance(student, CachedStudent):
        bound = f", up to {student.max_mb} MiB" if student.max_mb else ""
        kept = {"kept in": f"{student.path}{bound}"}
        return {**about(student.student, verify=verify), **kept}
    if isinstance(student, ServerStudent):
        return _about_server(student)
    if isinstance(student, LocalStudent):
        return _about_local(student, verify)
    return {"student": type(student).__name__}


def _about_server(student: ServerStudent) -> Dict[str, Any]:
    settings = student.settings
    return {
        "student": settings.model,
        "server": settings.url,
        "key": f"in ${settings.key_env}" if settings.key_env else "none",
        "template": settings.template,
        "passages": f"up to {settings.max_passage_tokens} tokens",
        "answers held to": settings.held_to,
    }


def _tell_dial(student: LocalStudent) -> str:
    if not student.constrained:
        return "greedy, anything"
    if student.mention_bound:
        return f"searched, with mentions from {student.mention_bound:g} on"
    return f"greedy, empty from {student.empty_bound:g} on"


def _about_local(student: LocalStudent, verify: bool) -> Dict[str, Any]:
    checkpoint = student.checkpoint
    device = choose_device(student.device)
    config = checkpoint.config
    sizes = f"{config['num_hidden_layers']} layers, hidden {config['hidden_size']}"
    rows: Dict[str, Any] = {
        "student": checkpoint.name,
        "folder": checkpoint.path,
        "weights": f"{checkpoint.n_bytes / 2**20:.1f} MiB",
        "architecture": f"{sizes}, {config['vocab_size']} pieces",
        "template": student.template,
        "passages": f"up to {student.max_passage_tokens} tokens",
        "licence": checkpoint.licence or "none stated",
        "answers": _tell_dial(student),
        "calibrated": "no" if student.calibration == Calibration() else "yes",
        "device": device,
        "dtype": choose_dtype(student.dtype, device),
    }
    if verify:
        copied = student.coder.guide("") is not None
        rows["parameters"] = f"{student.model.num_parameters() / 1e6:.1f} M"
        rows["mentions"] = (
            "verbatim by construction" if copied else "checked afterwards"
        )
        rows["verified"] = "yes"
    return rows
