"""The mean of checkpoints: weights, what must be the same, what is told."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.average import average
from training.files import InputError

MINI = Path(__file__).parent.parent / "spacy_uniner" / "mini"


@pytest.fixture
def pair(tmp_path):
    """The shipped student, and one whose weights are all greater by 1."""
    for name in ("first", "second"):
        shutil.copytree(MINI, tmp_path / name)
    weights = load_file(str(MINI / "model.safetensors"))
    more = {name: (w.float() + 1).to(w.dtype) for name, w in weights.items()}
    path = str(tmp_path / "second" / "model.safetensors")
    save_file(more, path, metadata={"format": "pt"})
    file = tmp_path / "second" / "training.json"
    told = {**json.loads(file.read_text()), "dev": {"question": 1.0}}
    file.write_text(json.dumps(told))
    return tmp_path / "first", tmp_path / "second"


def test_average_lies_between_and_names_its_parts(pair, tmp_path):
    average(pair, [0.25, 0.75], tmp_path / "mean")
    first, mean = (
        load_file(str(path / "model.safetensors"))
        for path in (pair[0], tmp_path / "mean")
    )
    for name, weight in first.items():
        assert mean[name].dtype == weight.dtype
        expected = weight.float() + 0.75
        torch.testing.assert_close(mean[name].float(), expected, atol=0.02, rtol=0.02)
    told = json.loads((tmp_path / "mean" / "training.json").read_text())
    assert [part["share"] for part in told["averaged"]] == [0.25, 0.75]
    assert "dev" not in told  # of one of them, not of the mean
    assert not (tmp_path / "mean" / "calibration.json").exists()  # it is of others


@pytest.mark.parametrize(
    "shares,name,error",
    [
        ([1.0], None, "2 numbers that sum to 1"),
        ([0.5, 0.6], None, "sum to 1"),
        ([0.5, 0.5], "tokenizer.json", "differ in tokenizer.json"),
        ([0.5, 0.5], "config.json", "differ in config.json"),
    ],
)
def test_average_bad_input(pair, tmp_path, shares, name, error):
    if name:
        path = pair[1] / name
        path.write_text(path.read_text() + " ")
    with pytest.raises(InputError, match=error):
        average(pair, shares, tmp_path / "mean")


def test_average_wants_checkpoints(pair, tmp_path):
    (pair[0] / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        average(pair, [0.5, 0.5], tmp_path / "mean")
