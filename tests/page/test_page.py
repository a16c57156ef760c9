"""The HTML report: what it says; a browser shows it, sorts it, and asks nobody for anything."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ec2t_tf.export import page, reports
from ec2t_tf.export.file_formats import rewrite
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.mcu import BOARDS
from ec2t_tf.export.page import plots
from ec2t_tf.export.page.comparison import side_by_side
from ec2t_tf.export.page.document import Headline
from ec2t_tf.export.page.layers import formats_of, layers_of
from ec2t_tf.export.page.microcontrollers import boards, layers, on_cores, parts
from ec2t_tf.export.page.write import subjects_of
from ec2t_tf.export.tflite import write
from ec2t_tf.methods.base import Assignment
from ec2t_tf.tables import Table
from ec2t_tf.train import page as run_page
from tests import nets

SMALL = Path(__file__).parents[1] / "fixtures" / "v0_1_0" / "small_int8.tflite"
HOSTILE = "<script>alert('x')</script>&\"'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not here: apt-get install chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=400,800",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


def requests_of(browser: Any) -> list[str]:
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    return [url for url in sent if not url.startswith("data:")]


def test_files_in_a_browser(tmp_path: Path, browser: Any) -> None:
    """Renders without an error, sorts up and down, and no request leaves the file."""
    output = tmp_path / "report.html"
    page.write_page([SMALL, SMALL], output)
    browser.get_log("performance")
    browser.get(output.as_uri())
    assert requests_of(browser) == [output.as_uri()]
    assert browser.get_log("browser") == []
    table = browser.find_elements("css selector", "table")[1]
    # The page itself does not scroll sideways on a phone; wide tables do, in their box.
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) == 0

    def column(number: int) -> list[str]:
        cells = table.find_elements("css selector", f"tbody td:nth-child({number})")
        return [cell.get_property("textContent") for cell in cells]

    weights = reports.HEAD.index("weights") + 1
    button = table.find_element("css selector", f"th:nth-child({weights}) button")
    numbers = sorted(int(text.replace(",", "")) for text in column(weights))
    for expected in (numbers[::-1], numbers):
        browser.execute_script("arguments[0].click()", button)
        assert [int(text.replace(",", "")) for text in column(weights)] == expected
    names = sorted(column(1), key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    browser.execute_script(
        "arguments[0].click()", table.find_element("css selector", "th:nth-child(1) button")
    )
    assert column(1) == names[::-1]


def test_what_has_no_figure_sorts_last(tmp_path: Path, browser: Any) -> None:
    rows = [["a", "no estimate"], ["b", 2.5], ["", 3], ["d", None], ["e", 11]]
    output = tmp_path / "table.html"
    table = page.Table(["name", "ms"], rows)
    output.write_text(page.html("A table", [page.Section("One", [table])]))
    browser.get(output.as_uri())

    def click(column: int) -> list[str]:
        button = browser.find_element("css selector", f"th:nth-child({column}) button")
        browser.execute_script("arguments[0].click()", button)
        cells = browser.find_elements("css selector", "tbody td:first-child")
        return [cell.get_property("textContent") for cell in cells]

    assert click(2) == ["e", "", "b", "a", "d"]
    assert click(2) == ["b", "", "e", "a", "d"]
    assert click(1) == ["e", "d", "b", "a", ""]
    assert click(1) == ["a", "b", "d", "e", ""]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_run_in_a_browser(tmp_path: Path, browser: Any, scheme: str) -> None:
    """Everything that the script shows, in both colour schemes, as wide as a telephone."""
    latent = np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype(np.float32)
    codes = np.sign(latent) * (abs(latent) > 1)
    layer = SimpleNamespace(
        name="stage1",
        latent=latent,
        assign=lambda: Assignment(codes.astype(np.int8), np.array([-1.2, 0.0, 1.1])),
    )
    metrics = {
        **{"tflite_accuracy": 0.9, "float_accuracy": 0.92, "zeros": 0.68, "float_bytes": 9000},
    }
    history = [
        {"phase": phase, "epoch": "1", "accuracy": "0.8", "val_accuracy": "0.7", "zeros": zeros}
        for phase, zeros in (("float", ""), ("ternary", "0.68"))
    ]
    (tmp_path / "model.tflite").write_bytes(SMALL.read_bytes())
    output = run_page.write(
        tmp_path,
        title=HOSTILE,
        accuracy=[("float", 0.92), ("ternary", 0.9)],
        metrics=metrics,
        history=history,
        layers=Table(["layer", "w_n"], [["stage1", 1.2]]),
        ternary=[layer],
        confusion=np.array([[5, 1], [0, 4]]),
        labels=["yes", "no"],
        file=reports.report(tmp_path / "model.tflite"),
        verdict="equal",
    )
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["confusion"] == [[5, 1], [0, 4]]
    assert [row["val_accuracy"] for row in figures["history"]] == ["0.7", "0.7"]
    assert "Accuracy" in [table["section"] for table in figures["tables"]]
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert [row["kernel"] for row in rows] == [one.name for one in reports.report(SMALL).kernels]
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("performance")
    browser.get(output.as_uri())
    assert requests_of(browser) == [output.as_uri()]
    assert browser.get_log("browser") == []
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is (scheme == "light")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) == 0
    titles = [one.text for one in browser.find_elements("css selector", "h2")]
    assert titles == [
        *("Accuracy", "Layers of the net", "Latent weights", "Layers of model.tflite"),
        *("On microcontrollers", "Settings", "How this page was made"),
    ]
    assert len(browser.find_elements("css selector", "figure svg")) == 5
    browser.find_element("css selector", "nav a:last-child").click()
    assert browser.current_url.endswith("#part6")


def test_names_cannot_run(tmp_path: Path, browser: Any) -> None:
    """Names come from files of strangers."""
    with plots.drawing(3, 2) as figure:
        figure.text(0.5, 0.5, HOSTILE)
        picture = plots.svg(figure)
    parts = [
        page.Text(HOSTILE),
        page.Text(HOSTILE, preformatted=True),
        page.Table([HOSTILE], [[HOSTILE]], caption=HOSTILE),
        page.Figure(picture, HOSTILE),
        page.Figure(plots.bars([HOSTILE], [1], HOSTILE, None), HOSTILE),
    ]
    document = page.html(HOSTILE, [page.Section(HOSTILE, parts)], [Headline(HOSTILE, HOSTILE)])
    assert "<script>alert" not in document
    output = tmp_path / "hostile.html"
    output.write_text(document)
    browser.get(output.as_uri())
    assert browser.find_element("css selector", "h1").text == HOSTILE
    assert browser.find_element("css selector", "pre").text == HOSTILE
    assert browser.find_element("css selector", "td").get_property("textContent") == HOSTILE


def test_figures_beside_the_page(tmp_path: Path) -> None:
    page.write_page([SMALL], tmp_path / "a.html")
    written = json.loads((tmp_path / "a.json").read_text())
    (figures,) = written["files"]
    sections = [table["section"] for table in written["tables"]]
    name = SMALL.name
    assert sections == [*2 * [f"Layers of {name}"], *2 * [f"{name} on microcontrollers"]]
    one = reports.report(SMALL)
    assert figures["file_bytes"] == SMALL.stat().st_size == one.file_bytes
    text = (tmp_path / "a.html").read_text()
    for kernel in one.kernels:
        assert f"<td>{kernel.name}</td>" in text
        assert f"{kernel.weights_bytes:,}</td>" in text
    assert f"<b>{one.file_bytes:,}</b>" in text
    with pytest.raises(ValueError, match=r"ends in \.html"):
        page.write_page([SMALL], tmp_path / "a.txt")


def test_runs_and_files_are_compared(tmp_path: Path) -> None:
    """By the names that tell them apart, with what training measured where there is a run."""
    for number, accuracy in ((1, 0.9), (2, 0.875)):
        run = tmp_path / f"run{number}"
        run.mkdir()
        (run / "model.tflite").write_bytes(SMALL.read_bytes())
        (run / "metrics.json").write_text(json.dumps({"tflite_accuracy": accuracy}))
        (run / "history.csv").write_text(f"phase,epoch,val_accuracy\nfloat,1,{accuracy}\n")
    written = page.write_page([tmp_path / "run1", tmp_path / "run2", SMALL], tmp_path / "a.html")
    assert [path.name for path in written] == ["a.html", "a.json", "a.csv"]
    text = written[0].read_text()
    for shown in ("<td>run1</td>", "90.00%</td>", "87.50%</td>", "<td>small_int8.tflite</td>"):
        assert shown in text
    figures = json.loads(written[1].read_text())["files"]
    assert [one.get("metrics") for one in figures] == [
        *({"tflite_accuracy": 0.9}, {"tflite_accuracy": 0.875}, None),
    ]
    head, *rows = csv.reader(written[2].read_text().splitlines())
    assert head == ["file", *reports.HEAD]
    assert [row[0] for row in rows] == [
        name for name in ("run1", "run2", SMALL.name) for _ in reports.report(SMALL).kernels
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"model\.tflite"):
        page.write_page([tmp_path / "empty"], tmp_path / "b.html")
    (tmp_path / "run1" / "metrics.json").write_text("[]")
    with pytest.raises(ValueError, match="object of figures"):
        page.write_page([tmp_path / "run1"], tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


def test_files_beside_a_run_have_its_accuracies(tmp_path: Path) -> None:
    """Also a file in another format, which computes the same bits; none for another net's file."""
    figures = {"tflite_accuracy": 0.9, "int8_accuracy": 0.93}
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    (tmp_path / "model.tflite").write_bytes(SMALL.read_bytes())
    packed = SMALL.with_name("small_packed.tflite").read_bytes()
    (tmp_path / "packed.tflite").write_bytes(packed)
    net = nets.NetBuilder((1, 8, 8, 3), seed=1)
    other = net.finish(net.conv(net.input, 8, (3, 3), zeros=0.5))
    for name in ("float_int8.tflite", "other.tflite"):
        (tmp_path / name).write_bytes(other)
    names = ("model.tflite", "packed.tflite", "float_int8.tflite", "other.tflite")
    found = subjects_of([tmp_path / name for name in names], cores=["m0", "m55"])
    assert [one.accuracy for one in found] == [0.9, 0.9, 0.93, None]
    table = side_by_side(found, names)
    assert table.head[1] == "top-1"
    assert [*table.head[-6:]] == [
        *(
            "m0: flash",
            "RAM",
            "instructions, estimated",
            "m55: flash",
            "RAM",
            "instructions, estimated",
        ),
    ]
    one, same, *_ = table.rows
    assert one[-6:] == same[-6:]
    assert all(isinstance(one[place], int) for place in (-6, -5, -3, -2))
    assert one[-1] == found[0].cores[-1].estimate > 0  # nothing was measured
    assert found[0].as_dict()["cores"][0]["core"] == "m0"


def test_boards_and_kernel_calls() -> None:
    """What `boards` prints and `to_c` reports."""
    content = SMALL.read_bytes()
    found = boards(content)
    assert [row[0] for row in found.rows] == list(BOARDS)
    assert {row[2] for row in found.rows} == {"yes"}
    calls = layers(content, "m4")
    assert calls.total[1] == sum(row[1] for row in calls.rows if isinstance(row[1], int))
    estimates = [row[2] for row in calls.rows]
    assert calls.total[2] == pytest.approx(sum(x for x in estimates if isinstance(x, float)))
    (m4,) = {row[5] for row in found.rows if row[1] == "m4"}
    assert m4 == calls.total[2]


def test_each_layer_in_every_format(tmp_path: Path) -> None:
    """The columns are those of the files that are written, and of the C."""
    one = reports.report(SMALL)
    table = layers_of(one)
    columns = dict(zip(table.head, zip(*table.rows, strict=True), strict=True))
    for name in ("sparse", "packed"):
        file = tmp_path / name
        file.write_bytes(rewrite(SMALL.read_bytes(), format=name).content)
        stored = reports.report(file).kernels
        assert columns[f"as {name}"] == tuple(
            k.weights_bytes + k.bias_bytes + k.table_bytes for k in stored
        )
    calls = [row for row in layers(SMALL.read_bytes(), "m4").rows if row[1]]
    assert columns["instructions, m4"] == tuple(row[2] for row in calls)
    assert columns["MACs"] == tuple(row[1] for row in calls)
    total = dict(zip(table.head, table.total, strict=True))
    assert total["as packed"] == sum(columns["as packed"])
    by_name = {row[0]: row[1] for row in formats_of(one).rows}
    assert by_name["int8"] == SMALL.stat().st_size
    assert by_name["packed"] == (tmp_path / "packed").stat().st_size
    # A packed file's page has the same C and the same formats.
    assert layers_of(reports.report(tmp_path / "packed")).head[-2:] == table.head[-2:]


def test_c_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add("x", (1, 4), "int8", scale=0.1, zero_point=0)
    y = graph.call("COS", (x,), graph.add("y", (1, 4), "int8", scale=0.1, zero_point=0))
    graph.inputs, graph.outputs = (x,), (y,)
    (tmp_path / "cos.tflite").write_bytes(write(graph))
    (one,) = on_cores(tmp_path / "cos.tflite", ["m4"])
    assert one.flash is None
    assert "COS" in one.note
    (said,) = parts(tmp_path / "cos.tflite")
    assert isinstance(said, page.Text)
    assert "COS" in said.text


def test_the_same_twice() -> None:
    """Neither time nor chance is in the picture, and two pictures share no names."""
    one, other = (plots.bars(["a"], [value], "x", None) for value in (1, 2))
    assert one == plots.bars(["a"], [1], "x", None)
    names = [set(text.split('id="')[1:]) and set(_ids(text)) for text in (one, other)]
    assert not names[0] & names[1]
    assert all(colour not in one for colour in plots.COLOURS)


def _ids(text: str) -> list[str]:
    return [part.split('"')[0] for part in text.split(' id="')[1:]]


def test_many_classes_become_a_list_of_mistakes() -> None:
    counts = np.diag(np.full(100, 9))
    counts[3, 7], counts[50, 2] = 4, 6
    table = run_page.confusions(counts, [f"c{i}" for i in range(100)])
    assert isinstance(table, page.Table)
    assert [tuple(row) for row in table.rows] == [("c50", "c2", 6), ("c3", "c7", 4)]
    picture = run_page.confusions(np.array([[5, 1], [0, 4]]), [])
    assert isinstance(picture, page.Figure)
    assert ">5<" in picture.svg
