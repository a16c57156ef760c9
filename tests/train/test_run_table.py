"""A search that is killed must find its finished runs again, and only those."""

from __future__ import annotations

import pytest

from ec2t_tf.run_table import RunTable


def table(path):
    return RunTable(path, key=("depth", "seed"), columns=("accuracy",))


def test_rows_survive_with_every_digit(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    table(path).add(depth=0.1 + 0.2, seed=1, accuracy=2 / 3)
    again = table(path)
    assert again.find(depth=0.1 + 0.2, seed=1) == {
        "depth": "0.30000000000000004",
        "seed": "1",
        "accuracy": repr(2 / 3),
    }
    assert again.find(depth=0.3, seed=1) is None
    assert len(again) == 1


@pytest.mark.parametrize("kept", range(1, 60))
def test_any_cut_of_the_file_resumes(tmp_path, kept):
    path = tmp_path / "rows.csv"
    rows = table(path)
    for seed in range(4):
        rows.add(depth=1.0, seed=seed, accuracy=0.5 + seed / 8)
    whole = path.read_bytes()
    cut = whole[: min(kept, len(whole))]
    path.write_bytes(cut)
    again = table(path)
    assert len(again) == max(0, cut.count(b"\n") - 1)
    for seed in range(len(again), 4):
        again.add(depth=1.0, seed=seed, accuracy=0.5 + seed / 8)
    assert path.read_bytes() == whole


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("name,value\na,1\n")
    with pytest.raises(ValueError, match=r"columns depth, seed, accuracy is required.*name, value"):
        table(path)


def test_a_damaged_row_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("depth,seed,accuracy\n1.0,1\n1.0,2,0.5\n")
    with pytest.raises(ValueError, match="line 2"):
        table(path)


def test_a_run_is_written_once(tmp_path):
    rows = table(tmp_path / "rows.csv")
    rows.add(depth=1.0, seed=1, accuracy=0.5)
    with pytest.raises(ValueError, match="written once"):
        rows.add(depth=1.0, seed=1, accuracy=0.6)
    with pytest.raises(ValueError, match="exactly depth, seed, accuracy"):
        rows.add(depth=1.0, seed=2)
