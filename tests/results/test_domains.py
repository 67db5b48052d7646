"""Each client's model on the test rows of each domain: counted by hand, and as the report has it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fedkt.engine.clients.measuring import by_domain
from fedkt.results.comparison.frames import Comparison
from fedkt.results.report.parties import domains_of, gains_of
from fedkt.tasks import CLASSIFICATION


def federation(domain: list[str] | None) -> Any:
    labels = torch.tensor([0, 1, 0, 1])
    test = SimpleNamespace(domain=None if domain is None else np.array(domain))
    return SimpleNamespace(
        test=test, task=CLASSIFICATION, shards=(None,), test_labels=lambda shard, rows: labels
    )


def test_rows_of_a_domain_are_measured_alone() -> None:
    """Right: rows 0, 1 and 3. North has rows 1 and 3, south 0 and 2; in the order of the data."""
    scores = {("global", ""): torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])}
    found = by_domain(scores, federation(["south", "north", "south", "north"]))
    assert found == {"south": 0.5, "north": 1.0} and list(found) == ["south", "north"]
    assert by_domain(scores, federation(None)) is None
    assert by_domain(scores, federation(["south"] * 4)) is None
    assert by_domain({}, federation(["south", "north", "south", "north"])) is None


def test_the_page_marks_the_best_of_each_domain(tmp_path: Path) -> None:
    assert domains_of(tmp_path) is None
    (tmp_path / "scenario.yaml").write_text("name: a\n")
    held = {"round": 3, "clients": {"a": {"x": 0.5, "y": 0.75}, "b": {"x": 0.625}}}
    (tmp_path / "domains.json").write_text(json.dumps(held))
    assert domains_of(tmp_path) == {
        "title": "accuracy",
        "domains": ["x", "y"],
        "rows": [("a", [("50.0 %", False), ("75.0 %", True)]), ("b", [("62.5 %", True), ("–", False)])],
        "round": 3,
    }


def test_a_run_of_domains_has_them_in_its_report(tmp_path: Path) -> None:
    import fedkt
    from fedkt.results.report import report_of

    told: dict[str, Any] = {
        "name": "halves",
        "data": {
            "dataset": {"one": "digits", "two": "digits"},
            "partition": {"kind": "domain", "samples_per_client": 30},
            "transfer": {"size": 20},
        },
        "clients": {"models": ["mlp"], "local": {"epochs": 1}},
        "strategy": {"name": "fedmd"},
        "rounds": 1,
        "engine": {"kind": "inline"},
    }
    run = fedkt.simulate(told, out=tmp_path / "run").path
    held = json.loads((run / "domains.json").read_text())["clients"]
    rows = [json.loads(line) for line in (run / "clients.jsonl").read_text().splitlines()]
    assert {row["client"]: row["personal"] for row in rows} == {c: held[c][c] for c in ("one", "two")}
    page = report_of(run, {}).read_text()
    assert "Domain by domain" in page and "Accuracy after round 1." in page


def test_a_comparison_tells_what_each_gained_on_each_domain(tmp_path: Path) -> None:
    """Bits per byte, of which less is better: of a on x 3.0 and 2.8 alone, 2.5 and 2.4 with fedmd."""
    alone, taught = ({"a": {"x": 3.0, "y": 2.0}}, {"a": {"x": 2.8}}), ({"a": {"x": 2.5}}, {"a": {"x": 2.4}})
    metric = {"name": "bits_per_byte", "higher_is_better": False}
    cells = []
    for method, figures in (("local", alone), ("fedmd", taught)):
        for seed, clients in enumerate(figures):
            folder = tmp_path / method / str(seed)
            folder.mkdir(parents=True)
            (folder / "domains.json").write_text(json.dumps({"round": 1, "clients": clients}))
            for name in ("rounds.jsonl", "clients.jsonl"):
                (folder / name).write_text("")
            (folder / "scenario.yaml").write_text("name: a\n")
            (folder / "summary.json").write_text(json.dumps({"metric": metric}))
            (folder / "environment.json").write_text("{}")
            told = {"scenario": "s", "condition": {}, "tried": {}, "method": method, "strategy": method}
            cells.append(
                {**told, "seed": seed, "path": f"{method}/{seed}", "status": "finished", "error": None}
            )
    comparison = Comparison(tmp_path, {"cells": cells})
    found = comparison.domains.set_index(["method", "seed", "domain"])["gain"].round(6).to_dict()
    assert found["fedmd", 0, "x"] == 0.5 and found["fedmd", 1, "x"] == 0.4 and found["local", 0, "y"] == 0
    shown = gains_of(comparison)
    assert shown is not None and (shown["title"], shown["baseline"]) == ("bits per byte", "local")
    # 0.45 ± 12.706 · 0.0707 / √2: one degree of freedom
    assert shown["tables"] == [{"name": "s fedmd", "domains": ["x"], "rows": [("a", ["+0.45 ± 0.64"])]}]
