"""How to make the pipeline, on this machine or another, and how to tell it again.

Small enough to be sent to workers, which make the pipeline themselves.
"""

import hashlib
import importlib.util
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from ..errors import Errors

if TYPE_CHECKING:
    from spacy.language import Language

BEGINNING = 1 << 20  # bytes of a file that tell it from another


@dataclass(frozen=True)
class Recipe:
    """What a pipeline is made of: settings of `uniner`, or a folder.

    labels (Tuple[str, ...]): Types that are asked for.
    model (str): "mini", a folder, or a hub name.
    hub (bool): Whether a hub name may be downloaded.
    threshold (float): Least probability of a mention, in [0, 1].
    lang (str): Language of the tokenizer.
    device (str): "auto", "cpu", "cuda" and so on.
    pipeline (Optional[Path]): A pipeline that was saved, in place of all these.
    code (Optional[Path]): A Python file that registers what the pipeline needs.
    """

    labels: Tuple[str, ...] = ()
    model: str = "mini"
    hub: bool = False
    threshold: float = 0.0
    lang: str = "en"
    device: str = "auto"
    pipeline: Optional[Path] = None
    code: Optional[Path] = None

    def __post_init__(self) -> None:
        """RAISES (ValueError): U010, if there are neither labels nor a pipeline; U118,
        if there are both."""
        if self.pipeline is None and not self.labels:
            raise ValueError(Errors.U010)
        if self.pipeline is not None and self.labels:
            problem = "can't be given together with `pipeline`, which has its own"
            raise ValueError(Errors.U118.format(setting="labels", problem=problem))

    def build(self) -> "Language":
        """Make the pipeline. Weights are loaded with the first document.

        RETURNS (Language): The pipeline.
        """
        import spacy

        if self.code is not None:
            import_code(self.code)
        if self.pipeline is not None:
            return spacy.load(self.pipeline)
        nlp = spacy.blank(self.lang)
        student = {
            "@misc": "spacy-uniner.LocalStudent.v1",
            "model": self.model,
            "hub": self.hub,
            "device": self.device,
        }
        config = {"labels": [*self.labels], "threshold": self.threshold}
        nlp.add_pipe("uniner", config={**config, "student": student})
        return nlp

    def absolute(self) -> "Recipe":
        """RETURNS (Recipe): The same, for a process in another working folder."""
        return replace(
            self,
            model=str(Path(self.model).resolve())
            if Path(self.model).is_dir()
            else self.model,
            pipeline=self.pipeline and self.pipeline.resolve(),
            code=self.code and self.code.resolve(),
        )

    def identity(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): What changes answers: not the device, and not
        where files are, but what is in them."""
        if self.pipeline is not None:
            told: Dict[str, Any] = {"pipeline": fingerprint(self.pipeline)}
        else:
            told = asdict(self)
            for name in ("device", "hub", "pipeline", "code"):
                del told[name]
            told["labels"] = [*self.labels]
            folder = Path(__file__).parent.parent / "mini"
            folder = folder if self.model == "mini" else Path(self.model)
            if folder.is_dir():
                told["model"] = fingerprint(folder)
        if self.code is not None:
            told["code"] = fingerprint(self.code)
        return told


def import_code(path: Path) -> None:
    """Run a Python file, once per process: spaCy refuses what is registered twice.

    path (Path): The file.
    RAISES (ValueError): U060, if there is none.
    """
    name = f"spacy_uniner_code_{hashlib.sha256(bytes(path.resolve())).hexdigest()[:8]}"
    if name in sys.modules:
        return
    if not path.is_file():
        raise ValueError(Errors.U060.format(path=str(path), reason="no such file"))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        reason = "its name must end in .py"
        raise ValueError(Errors.U060.format(path=str(path), reason=reason))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def fingerprint(path: Path) -> str:
    """Tell a folder from another, quickly.

    path (Path): A file, or a folder.
    RETURNS (str): Its name and a SHA-256 sum over names, sizes and beginnings (1 MiB)
        of its files; just its name, if there is none.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*"))
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file():
            continue
        name = file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode("utf8", "replace"))
        with file.open("rb") as content:
            digest.update(content.read(BEGINNING))
    return f"{path.name} {digest.hexdigest()[:16]}" if files else path.name
