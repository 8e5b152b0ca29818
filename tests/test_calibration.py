"""Probabilities that mean something: the file beside a checkpoint, and its fitting."""

import json
import random
import shutil

import pytest

from spacy_uniner.students.calibration import Calibration, Scale, log_odds
from spacy_uniner.students.checkpoint import SHIPPED, find_checkpoint
from spacy_uniner.students.local import LocalStudent, make_local_student
from training.calibrate import (
    Outcome,
    by_emptiness,
    by_mentions,
    calibration_error,
    find_bound,
    fit,
    fit_scale,
)

QUESTION = ("Ada Byron of London met Charles Babbage.", ["person", "city", "drug"])


def told(temperature, shift, n=20_000):
    """Draw claims of a model that is wrong by a known scale."""
    draw = random.Random(0)
    out = []
    for _ in range(n):
        p = draw.uniform(0.02, 0.98)
        truth = Scale(temperature, shift)(p)
        out.append((p, draw.random() < truth))
    return out


@pytest.mark.parametrize("temperature,shift", [(1.0, 0.0), (2.0, 0.0), (0.7, -1.0)])
def test_calibration_finds_the_scale_that_was_hidden(temperature, shift):
    scale, report = fit(told(temperature, shift))
    assert scale.temperature == pytest.approx(temperature, rel=0.2)
    assert scale.shift == pytest.approx(shift, abs=0.2)
    assert report["error_after"] < 0.025
    if shift:
        assert report["error_before"] > 0.1


def test_calibration_leaves_probabilities_that_a_scale_makes_worse():
    def draw(low, high):  # how many of ten are right at 0.4, and at 0.6
        return [(0.4, i < low) for i in range(10)] + [
            (0.6, i < high) for i in range(10)
        ]

    fitted, held_out = draw(7, 9) * 10, draw(4, 6) * 10
    claims = [claim for pair in zip(fitted, held_out) for claim in pair]
    scale, report = fit(claims)
    assert fit_scale(fitted) != Scale() and scale == Scale()
    assert report["error_after"] == report["error_before"]


def test_calibration_leaves_an_order_that_is_worse_than_chance():
    assert fit_scale([(0.9, False), (0.8, False), (0.2, True), (0.1, True)]) == Scale()


@pytest.mark.parametrize(
    "claims,expected",
    [
        ([(1.0, True), (0.0, False)], 0.0),
        ([(1.0, False), (0.0, True)], 1.0),
        ([(0.8, True), (0.8, False)], 0.3),
    ],
)
def test_calibration_error_is_the_gap_between_told_and_true(claims, expected):
    assert calibration_error(claims) == pytest.approx(expected)


def test_calibration_keeps_the_order_and_the_range():
    scale = Scale(1.7, -0.4)
    values = [scale(p) for p in (0.0, 1e-9, 0.1, 0.5, 0.9, 1.0)]
    assert values == sorted(values)
    assert 0 < values[0] and values[-1] < 1
    assert Scale()(0.3) == 0.3
    assert log_odds(0.5) == 0


OUTCOMES = {
    # n_gold, p_empty, mentions: sure ones are right here
    "closed": [Outcome(1, 0.2, [(0.9, True), (0.3, False)]), Outcome(0, 0.7, [])],
    # and likely ones there
    "open": [
        Outcome(2, 0.4, [(0.5, True), (0.3, True), (0.1, False)]),
        Outcome(0, 0.6, [(0.2, False)]),
    ],
}


@pytest.mark.parametrize(
    "take,half,expected",
    [
        (by_mentions, "open", {0.05: 66.7, 0.25: 83.3, 0.4: 83.3, 0.7: 50.0}),
        (by_emptiness, "open", {0.3: 33.3, 0.5: 73.3, 0.65: 66.7}),
        (by_mentions, None, {0.05: 66.7, 0.25: 83.3, 0.4: 83.3, 0.7: 50.0}),
        (by_mentions, "no such set", {0.25: 83.3}),
    ],
)
def test_calibration_finds_the_bound_of_the_best_mean(take, half, expected):
    best, report = find_bound(OUTCOMES, take, list(expected), half)
    assert report["mean_f1"] == pytest.approx(expected, abs=0.1)
    assert expected[best] == max(expected.values())
    assert set(report["f1"][best]) == {"closed", "open"}


def test_calibration_half_weighs_as_much_as_all_others():
    outcomes = {**OUTCOMES, "other": OUTCOMES["closed"]}
    _, report = find_bound(outcomes, by_mentions, [0.25], "open")
    _, two = find_bound(OUTCOMES, by_mentions, [0.25], None)
    assert report["mean_f1"] == two["mean_f1"]


def test_calibration_without_a_bound_is_one_for_greedy_answers(tmp_path):
    Calibration(0.4).save(tmp_path)
    told = json.loads((tmp_path / "calibration.json").read_text())
    del told["mention_bound"]
    (tmp_path / "calibration.json").write_text(json.dumps(told))
    assert Calibration.of(tmp_path) == Calibration(0.4, mention_bound=0.0)


def test_calibration_changes_probabilities_and_no_mention(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(SHIPPED, folder)
    (folder / "manifest.json").unlink()
    Calibration(1.0, Scale(3.0, 0.5), Scale(2.0, 1.0)).save(folder)
    found = make_local_student(model=str(folder), dtype="float32")
    plain = LocalStudent(
        find_checkpoint("mini"),
        dtype="float32",
        calibration=Calibration(empty_bound=1.0),
    )
    [row], [expected] = found([QUESTION]), plain([QUESTION])
    for answer, other in zip(row, expected):
        assert answer.text == other.text != "[]"
        assert answer.p_empty == pytest.approx(Scale(3.0, 0.5)(other.p_empty))
        for mention, same in zip(answer.mentions, other.mentions):
            assert mention.probability == pytest.approx(
                Scale(2.0, 1.0)(same.probability)
            )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"empty_bound": 0.5}',
        '{"empty_bound": 0.5, "empty": {}, "mention": {}, "mention_bound": 20}',
        '{"empty_bound": -1, "empty": {}, "mention": {}}',
        '{"empty_bound": 0.5, "empty": {"temperature": 0}, "mention": {}}',
        '{"empty_bound": 0.5, "empty": {"temperature": "2"}, "mention": {}}',
    ],
)
def test_calibration_that_can_not_be_read_is_named(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match="U046"):
        Calibration.of(tmp_path)
