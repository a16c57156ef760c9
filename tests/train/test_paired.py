"""Differences of two nets on the same examples, against scipy's paired t test and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ec2t_tf.train import paired
from ec2t_tf.train.tasks.base import Split


def a_run(folder: Path, test: Split, **predicted: np.ndarray) -> Path:
    folder.mkdir()
    for net, classes in predicted.items():  # one after another, as a run does
        paired.save(folder, test, {net: classes})
    return folder


def examples(random: np.random.Generator, count: int) -> Split:
    return Split(random.random((count, 3)), random.integers(0, 4, count))


def guesses(random: np.random.Generator, labels: np.ndarray, wrong: float) -> np.ndarray:
    return np.where(random.random(len(labels)) < wrong, (labels + 1) % 4, labels)


def test_one_run_is_a_paired_t_test(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    test = examples(random, 500)
    float_, ternary = (guesses(random, test.labels, wrong) for wrong in (0.1, 0.2))
    run = a_run(tmp_path / "run", test, float=float_, ternary=ternary)
    found = paired.compare([run], [run], of="ternary", against="float")
    right = [(x == test.labels).astype(float) for x in (ternary, float_)]
    low, high = stats.ttest_rel(*right).confidence_interval(0.95)
    assert found.difference == pytest.approx(right[0].mean() - right[1].mean())
    assert found.difference == pytest.approx((low + high) / 2)
    assert found.interval == pytest.approx((high - low) / 2, rel=0.005)  # t against normal
    assert (found.examples, found.runs) == (500, 1)


def test_seeds_are_averaged_and_folds_put_side_by_side(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    folds = [examples(random, count) for count in (300, 100)]
    folds[1] = Split(folds[1].inputs, folds[0].labels[:100])
    runs, right = [], {}
    for number, test in enumerate(folds):
        for seed in (1, 2):
            chosen = guesses(random, test.labels, 0.3)
            right[number, seed] = chosen == test.labels
            runs.append(a_run(tmp_path / f"{number}_{seed}", test, ternary=chosen, float=chosen))
    found = paired.compare(runs, runs, of="ternary", against="float")
    by_hand = np.concatenate([(right[n, 1].astype(float) + right[n, 2]) / 2 for n in (0, 1)])
    assert found.first == pytest.approx(by_hand.mean())
    assert (found.difference, found.interval, found.examples, found.runs) == (0, 0, 400, 2)


def test_others_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(3)
    test, other = examples(random, 20), examples(random, 20)
    one = a_run(tmp_path / "one", test, ternary=test.labels)
    second = a_run(tmp_path / "second", other, ternary=other.labels)
    with pytest.raises(ValueError, match="Runs on the same test examples are required"):
        paired.compare([one], [second], of="ternary", against="ternary")
    with pytest.raises(ValueError, match="As many runs of each fold are required"):
        paired.compare([one, one, second], [one], of="ternary", against="ternary")
    assert paired.main([str(one)]) == 2
    assert "must hold predictions of 'float'. Received: ['examples'" in capsys.readouterr().err
    assert paired.main([str(tmp_path)]) == 2
    assert "A finished run with its predictions.npz is required" in capsys.readouterr().err
    assert paired.main([str(one), "--with", str(one)]) == 0
    assert "100.00 % - 100.00 % = +0.00 points" in capsys.readouterr().out
