"""A table as text, CSV and Markdown."""

from __future__ import annotations

import csv

from ec2t_tf.tables import Table

TABLE = Table(
    ("net", "zeros", "bytes"),
    [("a, b", 0.5, 12345), ("c", None, 7)],
    ("", "{:.1%}", "{:,}"),
    total=("all", None, 12352),
)


def test_text() -> None:
    assert TABLE.text(rule=True).splitlines() == [
        "net   zeros   bytes",
        "----  -----  ------",
        "a, b  50.0%  12,345",
        "c                 7",
        "----  -----  ------",
        "all          12,352",
    ]


def test_csv_keeps_numbers_as_they_are() -> None:
    assert list(csv.reader(TABLE.csv().splitlines())) == [
        ["net", "zeros", "bytes"],
        ["a, b", "0.5", "12345"],
        ["c", "", "7"],
    ]


def test_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "| net | zeros | bytes |",
        "| --- | ---: | ---: |",
        "| a, b | 50.0% | 12,345 |",
        "| c |  | 7 |",
    ]


def test_no_rows() -> None:
    assert Table(("a", "b"), []).text() == "a  b"
