"""The house: who may import whom, what stays lazy, what is registered."""

import ast
import configparser
from pathlib import Path

import pytest
import spacy
from spacy import registry

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "spacy_uniner"
# lower may not import higher; modules of one floor may not import each other unless listed
FLOORS = [
    {"errors", "sums"},
    {"types"},
    {"prompt", "windows", "answers", "students.copying"},
    {"students.spelling", "students.llama", "students.calibration", "align", "visual"},
    {"students.coding", "students.branch", "students.checkpoint"},
    {"students.search", "students.reading"},
    {"students.grove"},
    {"students.tree"},
    {"students.local"},
    {"students.reference"},
    {"students.database"},
    {"students.store"},
    {"students.cache"},
    {
        "students.serving.address",
        "students.serving.grammars",
        "students.serving.prompts",
    },
    {
        "students.serving.replies",
        "students.serving.settings",
        "students.serving.folder",
    },
    {"students.serving.client", "students.serving.scores"},
    {"students.serving.probing"},
    {"students.serving.asking"},
    {"students.server"},
    {"about"},
    {"component"},
    {"corpora.records", "corpora.formats", "corpora.recipe", "corpora.writing"},
    {"corpora.shards", "corpora.documents", "corpora.plan"},
    {"corpora.working"},
    {"corpora.folder"},
    {"corpora.annotating"},
    {"corpora.on_ray"},
    {"corpora"},
    {"cli"},
    {"benchmark.score", "benchmark.registry", "benchmark.readers.row"},
    {"benchmark.readers.parts", "benchmark.readers.sentences"},
    {
        "benchmark.readers.conll",
        "benchmark.readers.docbin",
        "benchmark.readers.standoff",
    },
    {
        "benchmark.readers.finer",
        "benchmark.readers.records",
        "benchmark.readers.sofc",
    },
    {"benchmark.readers.conversations"},
    {"benchmark", "benchmark.readers", "benchmark.fetching"},
    {"benchmark.examples"},
    {"benchmark.running"},
    {"benchmark.report", "benchmark.export"},
    {"benchmark.__main__"},
    {"__main__", "students", "students.serving"},
]
HEAVY = {
    "torch",
    "transformers",
    "openai",
    "accelerate",
    "ray",
    "safetensors",
    "huggingface_hub",
    "peft",
    "httpx2",
    "pyarrow",
}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
}


def floor_of(module: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if module in floor)


def module_imports(path: Path):
    """Names imported when the module is, as (level, module)."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


def test_layout_every_module_has_a_floor():
    assert set(MODULES) == set.union(*FLOORS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_layout_imports_go_downwards(module):
    for level, name in module_imports(MODULES[module]):
        if level:
            is_package = MODULES[module].name == "__init__.py"
            parts = [*module.split("."), *[""] * is_package]
            package = parts[:-level]
            imported = ".".join([*package, name])
            assert floor_of(imported) < floor_of(module), f"{module} imports {imported}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_layout_heavy_imports_are_inside_functions(module):
    found = {
        name.split(".")[0]
        for level, name in module_imports(MODULES[module])
        if not level
    }
    assert not found & HEAVY


@pytest.mark.parametrize(
    "path", sorted([*PACKAGE.rglob("*.py"), *ROOT.glob("training/**/*.py")])
)
def test_layout_every_file_says_its_job(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf8")))


SCRIPTS = {
    path.stem
    for path in ROOT.glob("training/*.py")
    if "__main__" in path.read_text(encoding="utf8")
}


@pytest.mark.parametrize("path", sorted(ROOT.glob("training/**/*.py")))
def test_layout_training_scripts_meet_in_files(path):
    assert {"corpus", "teacher", "conversations", "finetune"} <= SCRIPTS
    found = {name for level, name in module_imports(path) if level}
    assert not found & SCRIPTS


def test_registry_entry_points_are_declared_and_found():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    declared = config["options.entry_points"]
    assert "uniner = spacy_uniner.component:make_uniner" in declared["spacy_factories"]
    assert spacy.blank("en").has_factory("uniner")
    for line in declared["spacy_misc"].strip().splitlines():
        name = line.split("=")[0].strip()
        assert name.startswith("spacy-uniner.") and name.endswith(".v1")
        assert registry.has("misc", name)


def test_registry_every_registered_function_is_declared():
    declared = (ROOT / "setup.cfg").read_text(encoding="utf8")
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            is_call = isinstance(node, ast.Call) and isinstance(
                node.func, ast.Attribute
            )
            if is_call and node.func.attr == "misc":
                assert f"{node.args[0].value} =" in declared
