"""The report of a comparison and of a run: what it says and holds, and how it behaves in a browser."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fedkt
from fedkt import scenario as scenarios
from fedkt.cli.commands import app
from fedkt.drawing import HUES, look
from fedkt.errors import InputError
from fedkt.files import write_atomic, write_json
from fedkt.results.measured import read_measured
from fedkt.results.metrics import TITLES
from fedkt.results.report import report_of
from fedkt.results.report.collect import NOTHING, _matrices, _packed
from fedkt.tasks import Metric, scoring

CLIENTS, ROUNDS = 4, 3
REACHED = {"local": 0.5, "knfu": 0.7, "fd <b>": 0.55, "central": 0.9}
"""Personal accuracy of the last round, at seed 0; each further seed is a point better."""


def write_run(
    folder: Path, name: str, strategy: str, seed: int, reached: float, epsilon: float | None = None
) -> None:
    """A run's folder with made-up numbers, as the engine would write it."""
    resolved = scenarios.load({"name": name, "strategy": {"name": strategy}, "rounds": ROUNDS, "seed": seed})
    write_atomic(folder / "scenario.yaml", scenarios.dump(resolved).encode())
    write_json(
        folder / "environment.json", {"run": "0" * 32, "versions": {"torch": "2"}, "command": ["fedkt", "x"]}
    )
    clients = [
        {"client": str(k), "domain": None, "model": "mlp", "rows": [k, 2], "validation": 0, "test": None}
        for k in range(CLIENTS)
    ]
    message = {"up": {"values": 100}, "down": {"values": 100, "tensor.a": 20, "tensor.b": 30}}
    about = {"classes": 2, "clients": clients, "transfer": {"rows": 9, "sha256": "ab"}, "test": 5}
    write_json(folder / "federation.json", about | {"shares": ["knowledge"], "message": message})
    rows: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    for number in range(1, ROUNDS + 1):
        each = [reached - 0.1 * (ROUNDS - number) + 0.02 * (k - 1.5) for k in range(CLIENTS)]
        mean = float(np.mean(each))
        accuracy = {
            "personal_mean": mean,
            "personal_std": 0.02,
            "global_mean": mean - 0.1,
            "global_std": 0.02,
        }
        report = {"clients": list("0123"), "weights": np.eye(CLIENTS).tolist()} if strategy == "knfu" else {}
        size = {"up": 400 if strategy == "knfu" else 0, "down": 400 if strategy == "knfu" else 0}
        rows.append({"round": number, "status": "fused", "accuracy": accuracy, "bytes": size, "wall_s": 1.0})
        rows[-1] |= {"replies": {"accepted": CLIENTS}, "report": report}
        rows[-1]["loss"] = {"train": 2.0 / number, "distill": 0.5 / number if strategy != "local" else None}
        lines += [
            {"round": number, "client": k, "status": "accepted", "personal": value, "global": value - 0.1}
            | {"bytes": {"up": 100, "down": 100}, "before_digest": value - 0.15}
            for k, value in enumerate(each)
        ]
        losses += [{"round": number, "client": k, "train": (1.7 + 0.2 * k) / number} for k in range(CLIENTS)]
    write_atomic(folder / "rounds.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    write_atomic(folder / "clients.jsonl", "".join(json.dumps(row) + "\n" for row in lines).encode())
    write_atomic(folder / "losses.jsonl", "".join(json.dumps(row) + "\n" for row in losses).encode())
    confusion = {"round": ROUNDS, "rows": "global", "clients": CLIENTS, "counts": [[30, 10], [8, 32]]}
    write_json(folder / "confusion.json", confusion)
    write_json(folder / "model-input.json", {"labels": ["healthy", "ill"]})
    sent = ROUNDS * rows[0]["bytes"]["up"]
    summary = {"scenario": name, "strategy": strategy, "engine": "inline", "seed": seed, "rounds": ROUNDS}
    summary |= {"clients": CLIENTS, "accuracy": rows[-1]["accuracy"], "bytes": {"up": sent, "down": sent}}
    summary |= {"privacy": {"mode": "none", "epsilon": epsilon, "statement": "No guarantee."}}
    summary |= {"time": {"wall_s": 3.0, "client_updates": 12, "client_updates_per_s": 4.0}}
    write_json(folder / "summary.json", summary | {"replies": {"accepted": 12}})


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods on two scenarios with two seeds, a failed run and an impossible one."""
    folder = tmp_path_factory.mktemp("comparison")
    cells = []
    for name, shift in (("easy", 0.0), ("hard", -0.2)):
        for method, reached in REACHED.items():
            for seed in (0, 1):
                strategy = method.partition(" ")[0]
                path = f"cells/{name}/{strategy}/default/{seed}"
                cells.append(
                    {"scenario": name, "method": method, "strategy": strategy, "condition": {}, "tried": {}}
                    | {"seed": seed, "path": path, "status": "finished", "error": None}
                )
                write_run(folder / path, name, strategy, seed, reached + shift + 0.01 * seed)
    cells.append(
        cells[0] | {"seed": 2, "path": "cells/x", "status": "failed", "error": "it broke <i>badly</i>"}
    )
    impossible = {"scenario": "easy", "method": "fedavg", "condition": {}, "reasons": ["It shares weights."]}
    settings = {"metric": "personal", "baseline": "local", "target": None}
    book = {"command": ["fedkt", "compare", "easy", "hard"], "settings": settings, "cells": cells}
    write_json(folder / "comparison.json", book | {"impossible": [impossible]})
    return folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One method under four attacks, each with and without a filter; without, an attack costs 10 points more
    than the one before it."""
    folder = tmp_path_factory.mktemp("swept")
    cells = []
    for place, kind in enumerate(("none", "echo", "peak", "reorder")):
        for choice in ("none", "cosine"):
            path = f"cells/attacked/knfu/{kind}-{choice}/0"
            reached = 0.8 - (0.1 * place if choice == "none" else 0.05)
            write_run(folder / path, "attacked", "knfu", 0, reached)
            cells.append(
                {"scenario": "attacked", "method": "knfu", "strategy": "knfu", "tried": {}, "seed": 0}
                | {"condition": {"kind": kind, "filter": choice}}
                | {"path": path, "status": "finished", "error": None}
            )
    write_json(
        folder / "comparison.json", {"command": ["fedkt"], "settings": {"baseline": "knfu"}, "cells": cells}
    )
    return folder


@pytest.fixture(scope="module")
def page(comparison: Path) -> str:
    return report_of(comparison, {}).read_text()


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_is_one_file_that_asks_for_nothing(page: str) -> None:
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", page)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", page)
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", page)


def test_names_and_errors_are_escaped(page: str) -> None:
    head = page.partition('<script type="application/json"')[0]
    assert "<b>" not in head and "fd &lt;b&gt;" in head
    assert "\\u003ci>badly" in page and "<i>badly" not in page


def test_the_answer_in_words(page: str) -> None:
    text = re.sub(r"\s+", " ", page)
    # Two seeds a point apart: mean 70.5, interval ± t(0.975, 1) · 0.5 = 12.706 · 0.5 = 6.4 points.
    assert "On easy, knfu reached the highest personal accuracy, 70.5 ± 6.4 %" in text
    # Differences are equal in both seeds, so no test says how sure they are.
    first = "(95 % interval over 2 seeds), +15.0 ± 0.0 points against the runner-up, fd &lt;b&gt;"
    second = "Against local that is +20.0 ± 0.0 points, which may be chance."
    assert f"70.5 ± 6.4 % {first}, which may be chance. {second}" in text
    assert "Pooling all data would give 90.5 %." in text
    assert "best mean rank in personal accuracy (1.0 of 3)" in text
    assert "No clients end worse off than training alone." in text
    assert "One run has no result" in text


def test_what_the_page_holds(page: str) -> None:
    data = data_of(page)
    assert [method["label"] for method in data["methods"]] == list(REACHED)
    assert data["metrics"] == ["personal", "global"] and data["seeds"] == [0, 1]
    assert len(data["runs"]) == 16
    heat = np.frombuffer(base64.b64decode(data["runs"][0]["heat"]["personal"]), np.uint8)
    # Client 0 of local, seed 0, after round 1: 0.5 − 0.2 − 0.03 = 0.27; 250 steps: 67.5
    assert len(heat) == CLIENTS * ROUNDS and heat[0] in (67, 68)
    knfu = [run for run in data["runs"] if "matrices" in run]
    assert {(run["block"], run["seed"]) for run in knfu} == {(0, 0), (1, 0)}  # the first seed of each
    assert [frame["round"] for frame in knfu[0]["matrices"]] == [1, 2, 3]
    row = next(row for row in data["tables"]["personal"] if row["method"] == "knfu")
    # 2400 bytes over 4 clients; 20 points for 0.0006 MB
    assert row["megabytes"] == pytest.approx(0.0006) and row["per_megabyte"] == pytest.approx(20 / 0.0006)
    # Of six pairs of four methods the better one comes first: 90.5, 70.5, 55.5 and 50.5 %.
    pairs = [row for row in data["pairs"]["personal"] if row["scenario"] == "easy"]
    assert [(p["method"], p["against"], round(100 * p["difference"])) for p in pairs] == [
        ("central", "knfu", 20),
        ("central", "fd <b>", 35),
        ("central", "local", 40),
        ("knfu", "fd <b>", 15),
        ("knfu", "local", 20),
        ("fd <b>", "local", 5),
    ]
    losses = data["losses"]
    assert losses["train"][0]["mean"] == [2.0, 1.0, 0.6667] and len(losses["train"]) == 8
    assert {line["method"] for line in losses["distill"]} == {1, 2, 3}  # local learns from nobody
    assert [run["seed"] for run in data["runs"] if "confusion" in run] == [0] * 8
    parts = data["parties"][0]["methods"]["1"]["message"]
    assert parts["down"] == {"values": 100, "model weights": 50}
    assert len(data["problems"]) == 1 and data["impossible"][0]["method"] == "fedavg"


def test_tables_and_pictures_lie_beside_it(comparison: Path, page: str) -> None:
    head, _, *rows = (comparison / "tables/summary.md").read_text().splitlines()
    assert head.startswith("| scenario | method | personal accuracy in % | to local | q |") and len(rows) == 8
    assert rows[1].startswith("| easy | knfu | 70.5 ± 6.4 | +20.0 ± 0.0 | – | 0 |")
    tex = (comparison / "tables/summary.tex").read_text()
    assert tex.startswith("\\begin{tabular}{llrrrrrrrr}\n\\toprule\n")
    assert "easy & knfu & 70.5 $\\pm$ 6.4 & +20.0" in tex and "in \\%" in tex
    assert (comparison / "tables/rounds.csv").read_text().count("\n") == 1 + 16 * ROUNDS
    for name in ("curves", "accuracy", "ranks"):
        assert (comparison / f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (comparison / f"pictures/{name}.svg").read_text()


def test_many_conditions_are_summed_up(swept: Path) -> None:
    text = report_of(swept, {}).read_text()
    answer = re.sub(r"\s+", " ", text.partition('<section class="answer">')[2].partition("</section>")[0])
    assert answer.strip() == (
        "<p>On attacked, knfu reached 80.0 % personal accuracy with kind=none, filter=none, and 50.0 % with "
        "kind=reorder, filter=none.</p>"
    )
    assert not (swept / "pictures/epsilon.png").exists()
    assert data_of(text)["blocks"][3] == {
        "scenario": "attacked",
        "condition": "kind=echo, filter=cosine",
        "settings": {"kind": "echo", "filter": "cosine"},
    }


def test_what_of_a_gain_is_knowledge(tmp_path: Path) -> None:
    """70 and 71 % with peers, 60 and 62 % with placebo ones: 10 and 9 points, 9.5 on the mean."""
    cells = []
    for method, reached in {"local": (0.5, 0.5), "knfu": (0.7, 0.71), "knfu, placebo": (0.6, 0.62)}.items():
        for seed in (0, 1):
            path = f"cells/{method}/{seed}"
            strategy = method.partition(",")[0]
            write_run(tmp_path / path, "easy", strategy, seed, reached[seed])
            cells.append(
                {"scenario": "easy", "method": method, "strategy": strategy, "condition": {}, "tried": {}}
                | {"seed": seed, "path": path, "status": "finished", "error": None}
            )
    settings = {"metric": "personal", "baseline": "local", "target": None}
    write_json(tmp_path / "comparison.json", {"command": ["fedkt"], "settings": settings, "cells": cells})
    # The interval of 10 and 9 with one degree of freedom: 12.706 times .5.
    assert (
        "With peers who answer to other rows knfu reaches 61.0 %: what its peers know of a row is worth "
        "+9.5 ± 6.4 points." in report_of(tmp_path, {}).read_text()
    )


def test_a_figure_of_which_less_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of 2 and 2.2 alone, of 1.5 and 1.6 together; what is no share is told in its own unit."""
    error = Metric("rmse", "RMSE", share=False, higher_is_better=False, highest=None)
    monkeypatch.setitem(TITLES, "rmse", error)
    cells = []
    for method, reached in {"local": (2.0, 2.2), "knfu": (1.5, 1.6)}.items():
        for seed in (0, 1):
            path = f"cells/{method}/{seed}"
            write_run(tmp_path / path, "easy", method, seed, reached[seed])
            summary = json.loads((tmp_path / path / "summary.json").read_text())
            summary |= {"metric": error.told(), "score": summary.pop("accuracy")}
            write_json(tmp_path / path / "summary.json", summary)
            cells.append(
                {"scenario": "easy", "method": method, "strategy": method, "condition": {}, "tried": {}}
                | {"seed": seed, "path": path, "status": "finished", "error": None}
            )
    settings = {"metric": "personal", "baseline": "local", "target": None}
    write_json(tmp_path / "comparison.json", {"command": ["fedkt"], "settings": settings, "cells": cells})
    text = report_of(tmp_path, {}).read_text()
    # The interval of gains of .5 and .6 with one degree of freedom: 12.706 times .05.
    assert "On easy, knfu reached the lowest personal RMSE, 1.55 ± 0.64 (95 % interval over 2 seeds)" in text
    assert "+0.55 ± 0.64 of gain against the runner-up, local" in text
    # Its clients were .2 better in the first of three rounds, where more was worse by .1 a round.
    assert "In personal RMSE it got worse after its best round: local after round 1" in text
    data = data_of(text)
    assert data["figure"]["sign"] == -1 and data["figure"]["highest"] == pytest.approx(2.23)
    assert [row["rank"] for row in data["tables"]["personal"]] == [2, 1]
    head = (tmp_path / "tables/summary.md").read_text().splitlines()[0]
    assert head.startswith(
        "| method | personal RMSE | gain over local | q | clients worse off in % | worst tenth |"
    )
    run = report_of(tmp_path / "cells/knfu/0", {}).read_text()
    assert "4 clients with strategy knfu reached 1.5 personal RMSE (± 0.02 between clients)" in run
    told = CliRunner().invoke(app, ["report", str(tmp_path), "--target", "0"])
    assert told.exit_code == 2 and "it must be a value of RMSE above 0." in told.stderr


def test_accuracy_against_epsilon_is_drawn(tmp_path: Path) -> None:
    cells = []
    for epsilon in (1.0, 8.0):
        path = f"cells/private/knfu/epsilon={epsilon}/0"
        write_run(tmp_path / path, "private", "knfu", 0, 0.5 + epsilon / 40, epsilon)
        cells.append(
            {"scenario": "private", "method": "knfu", "strategy": "knfu", "tried": {}, "seed": 0}
            | {"condition": {"target_epsilon": f"{epsilon:g}"}}
            | {"path": path, "status": "finished", "error": None}
        )
    write_json(
        tmp_path / "comparison.json", {"command": ["fedkt"], "settings": {"baseline": "knfu"}, "cells": cells}
    )
    points = data_of(report_of(tmp_path, {}).read_text())["epsilon"]["personal"]
    assert [(p["epsilon"], round(p["mean"], 3)) for p in points] == [(1, 0.525), (8, 0.7)]
    picture = (tmp_path / "pictures/epsilon.svg").read_text()
    assert "<svg" in picture and (tmp_path / "pictures/epsilon.png").is_file()


def test_another_baseline_metric_and_target(comparison: Path) -> None:
    told = CliRunner().invoke(
        app, ["report", str(comparison), "--metric", "auc", "--baseline", "x", "--target", "2"]
    )
    assert told.exit_code == 2 and told.stderr.count("\n") == 3
    report_of(comparison, {"baseline": "knfu", "metric": "global", "target": 0.3})
    data = data_of((comparison / "report.html").read_text())
    assert (data["metric"], data["baseline"]) == ("global", "knfu")
    assert {row["target"] for row in data["tables"]["global"]} == {0.3}
    report_of(comparison, {})


def test_a_single_run_has_a_report(comparison: Path) -> None:
    run = comparison / "cells/easy/knfu/default/0"
    ended = CliRunner().invoke(app, ["report", str(run)])
    assert ended.exit_code == 0 and ended.stdout.strip() == str(run / "report.html")
    text = (run / "report.html").read_text()
    assert "After 3 rounds, 4 clients with strategy knfu reached 70.0 % personal accuracy" in text
    data = data_of(text)
    assert data["kind"] == "run" and len(data["runs"][0]["matrices"]) == 3
    assert data["curves"]["personal"][0]["mean"] == [0.5, 0.6, 0.7]
    # Losses of clients 1.7, 1.9, 2.1, 2.3 over the round's number: mean 2, standard deviation 0.2236.
    (train,) = data["losses"]["train"]
    assert train["mean"] == [2.0, 1.0, 0.6667] and train["max"] == [2.224, 1.112, 0.7412]
    assert "distill" not in data["losses"]
    assert data["clients"][1] == {"client": "1", "status": "accepted", "personal": 0.69, "global": 0.59} | {
        "taught": 0.05,
        "train": 0.6333,
    }
    assert data["runs"][0]["confusion"]["classes"] == ["healthy", "ill"]
    assert "On average a client sent and received 600 B of knowledge in all." in text
    assert "got worse" not in text


def test_what_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a comparison nor a run"):
        report_of(tmp_path, {})
    write_json(tmp_path / "comparison.json", {"cells": []})
    with pytest.raises(InputError, match=r"no run in .* has finished"):
        report_of(tmp_path, {})
    write_json(tmp_path / "comparison.json", {"cells": [{}]})
    with pytest.raises(InputError, match="is damaged"):
        report_of(tmp_path, {})


def test_a_real_run_can_be_reported(tmp_path: Path) -> None:
    """What the engine writes is what the report reads: partition and bytes too."""
    source = {"name": "s", "rounds": 1, "strategy": {"name": "fd"}, "engine": {"kind": "inline"}}
    source["data"] = {"partition": {"kind": "iid", "clients": 2, "samples_per_client": 20}}
    fedkt.simulate(source, out=tmp_path / "run")
    (part,) = data_of(report_of(tmp_path / "run", {}).read_text())["parties"]
    assert [sum(client["rows"]) for client in part["clients"]] == [20, 20]
    about = part["methods"]["0"]
    assert about["shares"] == ["knowledge"]
    assert sum(about["message"]["up"].values()) * 2 == about["bytes"]["up"]


def test_pieces() -> None:
    packed = np.frombuffer(base64.b64decode(_packed(np.array([[0, 0.5], [1, np.nan]]))), np.uint8)
    assert packed.tolist() == [0, 125, 250, NOTHING]
    assert _matrices([{"round": 1, "report": {"weights": [[1, 2]]}}, {"round": 2, "report": None}]) == {}
    told = [{"round": r, "report": {"weights": [[1.0]]}} for r in range(1, 101)]
    kept = [frame["round"] for frame in _matrices(told)["matrices"]]
    assert kept[0] == 1 and kept[-1] == 100 and len(kept) <= 25


def test_a_client_keeps_its_last_measurement(tmp_path: Path) -> None:
    rows = [
        {"round": 1, "client": 0, "personal": 0.5, "global": None},
        {"round": 2, "client": 0, "personal": None, "global": None},
        {"round": 2, "client": 10, "personal": 0.25, "global": None},
        {"round": 3, "client": 2, "personal": 0.75, "global": None},
    ]
    (tmp_path / "clients.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"round": 4, "cl'
    )
    found = read_measured(tmp_path)
    assert found.rounds == (1, 2, 3) and found.clients == (0, 2, 10)
    expected = [[0.5, np.nan, np.nan], [0.5, np.nan, 0.25], [0.5, 0.75, 0.25]]
    np.testing.assert_array_equal(found.values["personal"], np.array(expected, np.float32))
    assert read_measured(tmp_path / "none").rounds == ()


def falling(folder: Path, accuracies: dict[int, list[float]]) -> None:
    """Replace a run's accuracies, of all clients in each round."""
    rows = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]
    for row in rows:
        row["accuracy"] = {"personal_mean": float(np.mean(accuracies[row["round"]])), "personal_std": 0.0}
    for line in lines:
        line |= {"personal": accuracies[line["round"]][line["client"]], "global": None}
    (folder / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "clients.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_that_got_worse_says_after_which_round(tmp_path: Path) -> None:
    """From 70 % in round 2 each client loses 4, 5, 5, 6 points: mean 5, ± 3.182 · 0.8165 / 2 = 1.3."""
    write_run(tmp_path / "run", "worse", "knfu", 0, 0.7)
    falling(tmp_path / "run", {1: [0.5] * 4, 2: [0.7] * 4, 3: [0.66, 0.65, 0.65, 0.64]})
    text = report_of(tmp_path / "run", {}).read_text()
    assert (
        "It got worse after round 2: personal accuracy was 70.0 % there and is 65.0 % after round 3 "
        "(−5.0 ± 1.3 points, 95 % interval over clients); fewer rounds gave more." in text
    )
    # A fall that the clients do not agree about says nothing.
    falling(tmp_path / "run", {1: [0.5] * 4, 2: [0.7] * 4, 3: [0.9, 0.7, 0.7, 0.3]})
    assert "got worse" not in report_of(tmp_path / "run", {}).read_text()


def test_a_comparison_says_who_got_worse_after_which_round(tmp_path: Path) -> None:
    """knfu falls from 70 and 72 % in round 2 by 4 and 6 points; ± 12.706 · 1.4142 / √2 = 12.7 is chance."""
    cells: list[dict[str, Any]] = []
    for seed in (0, 1):
        for method in ("local", "knfu"):
            folder = tmp_path / f"c/{method}/{seed}"
            write_run(folder, "w", method, seed, 0.7)
            cells.append(
                {"scenario": "w", "method": method, "strategy": method, "condition": {}, "tried": {}}
                | {"seed": seed, "path": f"c/{method}/{seed}", "status": "finished", "error": None}
            )
    write_json(tmp_path / "comparison.json", {"command": ["fedkt"], "settings": {}, "cells": cells})
    said = "In personal accuracy it got worse after its best round: knfu after round 2 (71.0 % there, "
    for second, sentence in ((0.66, ""), (0.67, f"{said}−5.0 ± 0.0 points since); fewer rounds gave more.")):
        for seed, last in ((0, 0.65), (1, second)):
            here = 0.7 + 0.02 * seed
            falling(tmp_path / f"c/knfu/{seed}", {1: [0.5] * 4, 2: [here] * 4, 3: [last] * 4})
        text = report_of(tmp_path, {}).read_text()
        assert (sentence in text) if sentence else ("got worse" not in text)


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_folder_of_an_older_version_is_one_sentence(tmp_path: Path, kind: str) -> None:
    """Here a version whose rounds did not count bytes yet."""
    run = tmp_path / "c/0" if kind == "comparison" else tmp_path
    write_run(run, "old", "knfu", 0, 0.7)
    about = json.loads((run / "environment.json").read_text())
    write_json(run / "environment.json", about | {"versions": {"fedkt": "0.0.3"}})
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    for row in rows:
        del row["bytes"]
    (run / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if kind == "comparison":
        cell: dict[str, Any] = {"scenario": "old", "method": "knfu", "strategy": "knfu"}
        cell |= {"condition": {}, "tried": {}, "seed": 0, "path": "c/0", "status": "finished", "error": None}
        settings = {"baseline": "knfu"}
        write_json(tmp_path / "comparison.json", {"command": [], "settings": settings, "cells": [cell]})
    ended = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert ended.exit_code == 2 and ended.stderr.count("\n") == 1
    assert f"{tmp_path} was written by fedkt 0.0.3 and lacks what this one, " in ended.stderr

    # With a folder of this version the same error is a fault of fedkt's own, and is not called another's.
    write_json(run / "environment.json", about | {"versions": {"fedkt": version("fedkt")}})
    with pytest.raises(KeyError, match="bytes"):
        report_of(tmp_path, {})
    (run / "rounds.jsonl").write_text('{"round": 1,\n')
    with pytest.raises(InputError, match=f"^a file in {tmp_path} is damaged \\(.*; restore it, or run what"):
        report_of(tmp_path, {})
    assert "(KeyError: 'bytes'); make its report with that version, or run it again." in ended.stderr


def test_what_was_taken_for_what_is_counted_by_class(tmp_path: Path) -> None:
    """Every test row of every client is in one cell; more than half are right after three rounds."""
    source = {"name": "s", "rounds": 2, "strategy": {"name": "fd"}, "engine": {"kind": "inline"}}
    source["data"] = {"partition": {"kind": "iid", "clients": 2, "samples_per_client": 60}}
    result = fedkt.simulate(source, out=tmp_path / "run")
    found = json.loads((tmp_path / "run/confusion.json").read_text())
    counts, test = (
        np.array(found["counts"]),
        json.loads((tmp_path / "run/federation.json").read_text())["test"],
    )
    assert (found["round"], found["rows"], found["clients"]) == (2, "global", 2)
    assert counts.shape == (10, 10) and counts.sum() == 2 * test
    assert counts.trace() / counts.sum() == pytest.approx(result.summary["accuracy"]["global_mean"])
    scores = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [float("nan"), 0.0]])
    assert scoring.confusion(scores, torch.tensor([0, 0, 1, 1]), 2).tolist() == [[1, 1], [1, 0]]


# Colours ----------------------------------------------------------------------------------------------

SEES = {
    "all": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
"""What is left of linear red, green and blue: Machado, Oliveira, Fernandes 2009, table of severity 1."""


def lab(hue: str, sees: Any) -> Any:
    """CIELAB of a colour under D65."""
    levels = np.array([int(hue[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(sees) @ linear, 0, 1)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
    x, y, z = np.asarray(to_xyz) @ linear / [0.95047, 1.0, 1.08883]
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("theme", HUES)
@pytest.mark.parametrize("sees", SEES)
def test_strategies_are_told_apart_by_hue_also_without_red_or_green(theme: str, sees: str) -> None:
    places = [lab(hue, SEES[sees]) for hue in HUES[theme]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 28


def test_no_two_of_64_strategies_look_alike() -> None:
    assert len({look(place) for place in range(64)}) == 64
    assert len({look(place)[1] for place in range(8)}) == 8  # the first eight without any colour


# A browser --------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The debugging port of a headless Chromium with a fresh profile and no network."""
    profile = tmp_path_factory.mktemp("profile")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    flags += [
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    process = subprocess.Popen([str(CHROMIUM), *flags, "about:blank"], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (profile / "DevToolsActivePort").exists() and time.monotonic() < end:
        time.sleep(0.1)
    yield int((profile / "DevToolsActivePort").read_text().split()[0])
    process.terminate()
    process.wait()


class Tab:
    """A page in the browser, spoken to over the DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self._number = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self.socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            told = json.loads(await self.socket.recv())
            self._note(told)
            if told.get("id") == self._number:
                assert "error" not in told, told
                return dict(told["result"])

    async def run(self, script: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **text,
            )

    def _note(self, told: dict[str, Any]) -> None:
        parameters = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            self.trouble.append(str(parameters["exceptionDetails"]))
        elif told.get("method") in ("Runtime.consoleAPICalled", "Log.entryAdded"):
            self.trouble.append(str(parameters))
        elif told.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])


def visit(port: int, page: Path, steps: Any, dark: bool = False) -> Tab:
    """Open a page, take steps in it, and return what the browser had to say."""
    import urllib.request

    from websockets.asyncio.client import connect

    async def all_steps() -> Tab:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        async with connect(address, max_size=None) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await tab.call(f"{domain}.enable")
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            await tab.call("Emulation.setEmulatedMedia", features=scheme)
            await tab.call("Page.navigate", url=page.as_uri())
            for _ in range(200):
                if await tab.run("document.readyState === 'complete' && location.protocol === 'file:'"):
                    break
                await asyncio.sleep(0.05)
            await steps(tab)
            return tab

    return asyncio.run(all_steps())


CHOOSE = "(s => {{ s.value = {1}; s.dispatchEvent(new Event('{2}')) }})(document.querySelector('{0}'))"
FIRST_CELLS = "[...document.querySelectorAll('#table tbody tr')].map(r => r.cells[0].textContent)"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_a_comparison_in_a_browser(comparison: Path, page: str, port: int, dark: bool) -> None:
    async def steps(tab: Tab) -> None:
        assert await tab.run("document.documentElement.dataset.theme") == ("dark" if dark else "light")
        shown = await tab.run("[...document.querySelectorAll('section:not([hidden])')].map(s => s.id)")
        expected = "table pairs curves losses gains heat matrix confusion ranks bytes partition"
        expected += " privacy problems about"
        assert " ".join(filter(None, shown)) == expected
        # Sorting: by accuracy at first, by name after one click, the other way round after two.
        assert await tab.run(FIRST_CELLS) == ["central", "knfu", "fd <b>", "local"]
        by_name = "document.querySelector('#table th button').click()"
        await tab.run(by_name)
        assert await tab.run(FIRST_CELLS) == ["central", "fd <b>", "knfu", "local"]
        assert await tab.run("document.querySelector('#table th').getAttribute('aria-sort')") == "ascending"
        await tab.run(by_name)
        assert await tab.run(FIRST_CELLS) == ["local", "knfu", "fd <b>", "central"]
        # The heading that was pressed keeps the focus: Enter sorts again.
        await tab.press("Enter")
        assert await tab.run(FIRST_CELLS) == ["central", "fd <b>", "knfu", "local"]
        # Fading a curve, another metric, another axis, another scenario.
        assert await tab.run("document.querySelectorAll('#curves .line').length") == 4
        await tab.run("[...document.querySelectorAll('#curves .legend button')][1].click()")
        assert await tab.run("document.querySelectorAll('#curves .line.muted').length") == 1
        named = "document.querySelector('#table thead').textContent.includes('global accuracy')"
        assert not await tab.run(named)
        await tab.run(
            "[...document.querySelectorAll('#controls button')].find(b => b.textContent === 'global').click()"
        )
        assert await tab.run(named)
        await tab.run(
            "[...document.querySelectorAll('#curves button')].find(b => b.textContent === 'traffic').click()"
        )
        # Pooling moves data, not messages: it has no line against traffic.
        assert await tab.run("document.querySelectorAll('#curves .line').length") == 3
        value = "document.querySelector('#table tbody tr td:nth-child(2)').textContent"
        before = await tab.run(value)
        await tab.run(CHOOSE.format("#controls select", 1, "change"))
        assert await tab.run(value) != before
        # Pictures can be read with the keys alone.
        await tab.run("document.querySelector('#heat svg').focus()")
        await tab.press("ArrowRight")
        told = await tab.run("document.querySelector('#tip').textContent")
        assert re.fullmatch(r"client \d · mlp · \d rows, round 2: \d+ %", told), told
        await tab.run("document.querySelector('#curves figure svg').focus()")
        await tab.press("ArrowRight")
        told = await tab.run("document.querySelector('#tip').textContent")
        assert "fd <b>" in told and "knfu" not in told  # which was faded
        # The matrix of the first round.
        await tab.run(CHOOSE.format("#matrix input", 0, "input"))
        assert "round 1" in await tab.run("document.querySelector('#matrix').textContent")
        await tab.run("document.querySelector('#theme').click()")
        assert await tab.run("document.documentElement.dataset.theme") == ("light" if dark else "dark")
        # Tab reaches the controls from the top of the page.
        await tab.run("document.activeElement.blur(); window.scrollTo(0, 0)")
        for _ in range(3):
            await tab.press("Tab")
        assert await tab.run("document.activeElement.tagName") in ("A", "SELECT", "BUTTON")
        wide = await tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert wide, "the page scrolls sideways"
        await tab.call(
            "Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False
        )
        fits = "(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#table .wide'))"
        assert await tab.run(fits), "columns are cut off on an ordinary screen"
        # On paper it is light, and afterwards as before.
        themes = "window.themes = []; for (const when of ['beforeprint', 'afterprint'])"
        themes += " addEventListener(when, () => window.themes.push(document.documentElement.dataset.theme))"
        await tab.run(themes)
        await tab.call("Page.printToPDF", printBackground=True)
        assert await tab.run("window.themes") == ["light", "light" if dark else "dark"]
        ids = await tab.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))

    tab = visit(port, comparison / "report.html", steps, dark)
    assert tab.trouble == []
    assert all(url.startswith(("file:", "data:", "about:")) for url in tab.requests)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_a_run_in_a_browser(comparison: Path, port: int) -> None:
    page = report_of(comparison / "cells/easy/knfu/default/0", {})

    async def steps(tab: Tab) -> None:
        shown = await tab.run("[...document.querySelectorAll('section:not([hidden])')].map(s => s.id)")
        assert [name for name in shown if name] == [
            *("clients", "curves", "losses", "heat", "matrix", "confusion", "bytes", "partition", "privacy"),
            "about",
        ]
        # One run is drawn with a line for each kind of accuracy, and its clients are a table that sorts.
        assert await tab.run("document.querySelectorAll('#curves .line').length") == 2
        first = "document.querySelector('#clients tbody td').textContent"
        assert await tab.run(first) == "0"
        await tab.run("document.querySelector('#clients th button').click()")
        assert await tab.run(first) == "3"
        assert (
            await tab.run("document.querySelectorAll('#partition circle').length") == 7
        )  # client 0 lacks class 0

    assert visit(port, page, steps).trouble == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_swept_settings_in_a_browser(swept: Path, port: int) -> None:
    async def steps(tab: Tab) -> None:
        rows = "[...document.querySelectorAll('#sweep tr')].map(r => [...r.cells].map(c => c.textContent))"
        assert await tab.run(rows) == [
            ["kind", "filter=none", "filter=cosine"],
            ["none", "80.0", "75.0"],
            ["echo", "70.0", "75.0"],
            ["peak", "60.0", "75.0"],
            ["reorder", "50.0", "75.0"],
        ]
        bold = "[...document.querySelectorAll('#sweep td')].filter(c => c.style.fontWeight).length"
        assert await tab.run(bold) == 4

    assert visit(port, report_of(swept, {}), steps).trouble == []


SAVE = """(async () => {
  let blob = null;
  const saved = {}, real = URL.createObjectURL;
  URL.createObjectURL = (given) => { blob = given; return real.call(URL, given); };
  HTMLAnchorElement.prototype.click = function () { saved[this.download] = blob; };
  const buttons = document.querySelectorAll("section:not([hidden]) .save button");
  for (const button of buttons) await button.onclick();
  for (const name of Object.keys(saved)) {
    const bytes = new Uint8Array(await saved[name].arrayBuffer());
    saved[name] = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  }
  return saved;
})()"""
FIGURES = ("accuracy", "train-loss", "distill-loss", "gains", "clients", "weights", "confusion", "ranks")


def lies_as_it_says(pdf: bytes) -> bool:
    """Say whether each object of a PDF begins where its table of references says."""
    table = int(pdf.rsplit(b"startxref\n", 1)[1].split()[0])
    head, *entries = pdf[table:].split(b"trailer")[0].splitlines()[1:]
    starts = [int(entry.split()[0]) for entry in entries[1:]]
    assert head == b"0 %d" % (len(starts) + 1)
    return all(pdf[at:].startswith(b"%d 0 obj" % (i + 1)) for i, at in enumerate(starts))


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_every_figure_and_table_can_be_saved(comparison: Path, page: str, port: int) -> None:
    async def steps(tab: Tab) -> None:
        found = await tab.call("Runtime.evaluate", expression=SAVE, awaitPromise=True, returnByValue=True)
        saved = {name: base64.b64decode(text) for name, text in found["result"]["value"].items()}
        for figure in (*FIGURES, "partition"):
            png, svg, pdf, csv = (saved[f"easy-{figure}.{form}"] for form in ("png", "svg", "pdf", "csv"))
            # As wide as a column: 3.5 inches, at 600 dots each, and dark on white in a dark page too.
            assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") == 2100
            assert b'width="3.5in"' in svg and b"var(" not in svg and b'fill="rgb(91, 101, 109)"' in svg
            assert pdf.startswith(b"%PDF-1.4") and b"/MediaBox [0 0 252 " in pdf and lies_as_it_says(pdf)
            assert csv.count(b"\n") > 2
        assert b"(knfu) Tj" in saved["easy-accuracy.pdf"]  # text stays text
        assert b"knfu,1,0.0002,1,0.505,0.5,0.51\n" in saved["easy-accuracy.csv"]
        for name in ("strategies", "pairs", "scenarios", "bytes"):
            csv, md, tex = (saved[f"easy-{name}.{form}"] for form in ("csv", "md", "tex"))
            assert md.startswith(b"| ") and md.splitlines()[1].startswith(b"|---|")
            assert tex.startswith(b"\\resizebox{\\columnwidth}{!}{%\n\\begin{tabular}{l")
            assert csv.count(b"\n") == md.count(b"\n") - 1 == tex.count(b"\\\\\n")
        assert "| fd \\<b> | −35.0 ± 0.0 | −15.0 ± 0.0 |  | +5.0 ± 0.0 |" in saved["easy-pairs.md"].decode()
        assert b"fd $<$b$>$ & 55.5 $\\pm$ 6.4 & +5.0 $\\pm$ 0.0 &" in saved["easy-strategies.tex"]
        # A saved figure is drawn for its width and leaves the page as it was.
        assert await tab.run("document.documentElement.dataset.theme") == "dark"

    assert visit(port, comparison / "report.html", steps, dark=True).trouble == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("kind", ["comparison", "run"])
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_the_page_fits_wide_and_narrow_screens(
    comparison: Path, page: str, port: int, kind: str, width: int, dark: bool
) -> None:
    shown = comparison if kind == "comparison" else comparison / "cells/easy/knfu/default/0"

    async def steps(tab: Tab) -> None:
        await tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await asyncio.sleep(0.4)  # a change of width is waited for before all is drawn again
        assert await tab.run("document.documentElement.scrollWidth <= innerWidth"), (
            "the page scrolls sideways"
        )
        # Charts are drawn for the width that there is, so that their letters are as large as they say.
        scale = "[...document.querySelectorAll('section:not([hidden]) figure > svg')].map("
        scale += "s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
        scales = await tab.run(scale)
        assert len(scales) >= 6 and all(0.99 < ratio < 1.01 for ratio in scales), scales
        # No text sticks out of its chart.
        out = "[...document.querySelectorAll('section:not([hidden]) figure > svg text')].filter(t => { "
        out += "const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect(); "
        out += "return a.left < b.left - 2 || a.right > b.right + 2 || a.bottom > b.bottom + 4; })"
        assert await tab.run(out + ".map(t => t.closest('section').id + ': ' + t.textContent)") == []
        # Names of clients, their models and rows stand at the heat map; classes by their names.
        assert "3 · mlp · 5" in await tab.run("document.querySelector('#heat svg').textContent")
        assert "healthy" in await tab.run("document.querySelector('#confusion svg').textContent")
        # Every line has a hue and a dash of its own, and its name at its end.
        looks = "[...document.querySelectorAll('#curves .line')].map("
        looks += "l => l.getAttribute('stroke') + l.getAttribute('stroke-dasharray'))"
        lines = await tab.run(looks)
        assert len(set(lines)) == len(lines)
        named = await tab.run("document.querySelectorAll('#curves svg text.hit').length")
        assert named == len(lines)

    assert visit(port, report_of(shown, {}), steps, dark).trouble == []
