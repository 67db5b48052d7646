"""A run from what a Python session holds: rows, tables, models and strategies of a notebook's cell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import fedkt
from fedkt import registry
from fedkt.engine.runs.from_python import scenario_of
from fedkt.errors import InputError
from fedkt.scenario import check_importable, to_dict
from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig

FAST = ["rounds=1", "engine.kind=inline", "clients.local.epochs=1"]
Y = np.arange(90) % 3
X = (np.random.default_rng(0).normal(0, 0.3, (90, 4)) + np.eye(3, 4)[Y]).astype("float32")
SITES = np.array(["east", "north", "west"]).repeat(30)


class TrimmedConfig(StrategyConfig):
    trim: int = 1


class Trimmed(Strategy):
    """Give every client the trimmed mean."""

    client = "logits"
    needs_transfer = True
    Config = TrimmedConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        return {"form": "probabilities"}

    def fuse(self, contributions: Contributions) -> Fused:
        ordered = contributions.values.sort(0).values
        kept = ordered[self.config.trim : len(ordered) - self.config.trim].mean(0)  # type: ignore[attr-defined]
        return Fused({"values": kept / kept.sum(-1, keepdim=True)})


def test_rows_and_sites_are_enough(tmp_path: Path) -> None:
    result = fedkt.simulate(None, FAST, data=(X, Y), sites=SITES, strategy="fedmd", out=tmp_path / "run")
    assert result.summary["clients"] == 3 and result.summary["strategy"] == "fedmd"
    assert list(result.clients["client"]) == ["east", "north", "west"]
    data = yaml.safe_load((tmp_path / "run" / "scenario.yaml").read_text())["data"]
    assert (data["dataset"], data["transfer"]["from"], data["transfer"]["size"]) == ("here:data", "train", 18)


def test_a_table_with_names_gives_the_same_as_its_arrays(tmp_path: Path) -> None:
    table = pd.DataFrame(X, columns=list("abcd")).assign(ward=SITES, label=Y)
    arrays = fedkt.simulate(None, FAST, data=(X, Y), sites=SITES, strategy="fd", out=tmp_path / "arrays")
    frame = fedkt.simulate(None, FAST, data=table, sites="ward", strategy="fd", out=tmp_path / "frame")
    named = table.rename(columns={"label": "sick"})
    other = fedkt.simulate(
        None, FAST, data=(named, "sick"), sites="ward", strategy="fd", out=tmp_path / "other"
    )
    scenario = {
        "name": "data",
        "data": {"label": "sick", "standardise": True},
        "clients": {"models": "tabular"},
    }
    told = fedkt.simulate(scenario, FAST, data=named, sites="ward", strategy="fd", out=tmp_path / "told")
    assert frame.summary["accuracy"] == arrays.summary["accuracy"] == other.summary["accuracy"]
    assert told.summary["clients"] == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"data": pd.DataFrame({"a": [1.0], "lable": [0]})},
            "data has no column 'label' with the labels (name it as data=(table, 'column')); "
            "did you mean 'lable'?",
        ),
        ({"data": (pd.DataFrame({"a": [1.0]}), "sick")}, "data has no column 'sick' with the labels"),
        ({"data": {"a": [1.0], "label": [0]}, "sites": "ward"}, "data has no column 'ward' with the sites"),
        ({"data": X}, "data is a ndarray; it must be (rows, labels), (a table, the name of its column"),
        ({"data": (X, Y), "sites": "ward"}, "sites is 'ward', but the rows have no columns by name"),
        ({"data": (X, Y), "sites": SITES[:9]}, "sites has shape [9] but there are 90 rows"),
        ({"data": (X, "y")}, "data names 'y' for its labels, but its rows have no columns by name."),
        ({"sites": SITES}, "sites says whose row is whose, but there are no rows"),
        ({}, "there is neither a scenario nor data"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(given: dict[str, Any], words: str) -> None:
    source = "quickstart" if given.keys() == {"sites"} else None
    with pytest.raises(InputError) as caught:
        scenario_of(source, **given)
    assert str(caught.value).startswith(words)


def test_arguments_replace_what_a_scenario_says_and_overrides_come_last() -> None:
    found = scenario_of("quickstart", ["strategy.beta=7"], strategy="knfu", models=["mlp"], seed=3)
    assert (found.strategy.settings, found.clients.models, found.seed) == ({"beta": 7}, ["mlp"], 3)
    assert scenario_of("quickstart", strategy={"name": "fd"}).strategy.name == "fd"


def test_a_strategy_is_a_class_or_an_instance_with_settings() -> None:
    by_class = to_dict(scenario_of("quickstart", strategy=Trimmed))["strategy"]
    by_instance = to_dict(scenario_of("quickstart", strategy=Trimmed(trim=2)))["strategy"]
    assert by_class == {"name": f"{__name__}:Trimmed"}
    assert by_instance == {"name": f"{__name__}:Trimmed", "trim": 2}


def in_a_cell() -> tuple[Any, Any]:
    """What a notebook's cell would define: found by no import."""
    from torch import nn

    from fedkt.models.net import net

    class Mine(Trimmed):
        """Of a cell."""

    def wide(input: Any, classes: int, *, width: int = 6) -> Any:
        return net([nn.Flatten(), nn.Linear(4, width)], width, classes, dropout=0.0)

    return Mine, wide


def test_what_a_cell_defines_runs_and_is_refused_for_a_deployment(tmp_path: Path) -> None:
    mine, wide = in_a_cell()
    scenario = scenario_of(None, FAST, data=(X, Y), sites=SITES, strategy=mine(trim=0), models=wide)
    assert to_dict(scenario)["strategy"] == {"name": "here:Mine", "trim": 0}
    assert registry.find("strategies", "here:Mine") is mine
    result = fedkt.simulate(scenario, out=tmp_path / "run")
    assert result.summary["replies"]["accepted"] == 3
    from fedkt.deploy.coordinator.submission import submit

    with pytest.raises(InputError) as caught:
        check_importable(scenario)
    with pytest.raises(InputError, match="a site would have to import it"):
        submit(scenario, "nowhere", out=tmp_path / "deployed")
    assert not (tmp_path / "deployed").exists()
    assert str(caught.value).split("\n") == [
        f"'here:{name}' was defined in a notebook or a launched script, and a site would have to import it; "
        "define it in a module that sites have too, and write 'package.module:name'."
        for name in ("data", "wide", "Mine")
    ]


def test_two_of_one_name_are_told_apart_and_a_cell_run_again_replaces_its_own() -> None:
    one, two = (lambda input, classes: 1), (lambda input, classes: 2)
    found = scenario_of("quickstart", models=[one, two, one])
    assert found.clients.models == ["here:lambda", "here:lambda_2", "here:lambda"]
    assert [registry.find("models", name) for name in found.clients.models] == [one, two, one]
    scenario_of("quickstart", models=[two])
    assert registry.find("models", "here:lambda") is two


def test_what_is_not_here_is_told() -> None:
    with pytest.raises(InputError, match="was defined in a notebook or a launched script and is not here"):
        registry.find("strategies", "here:Gone")


def test_strategies_may_be_a_list(tmp_path: Path) -> None:
    mine, _ = in_a_cell()
    done = fedkt.compare(
        "quickstart",
        [{"name": "fedmd", "average": "probabilities"}, "fd", mine(trim=2)],
        seeds=[0],
        overrides=["rounds=1", "data.partition.clients=5", "clients.local.epochs=1", "engine.kind=inline"],
        out=tmp_path / "compared",
    )
    assert list(done.runs["method"]) == [
        "local",
        'fedmd (average="probabilities")',
        "fd",
        "here:Mine (trim=2)",
        "central",
    ]
    with pytest.raises(InputError, match="strategies: 3 is no strategy"):
        fedkt.compare("quickstart", [3])
    with pytest.raises(InputError, match="strategies: 'fd' is named twice"):
        fedkt.compare("quickstart", ["fd", {"name": "fd"}])


SCRIPT = """
import sys
import numpy as np, fedkt
from torch import nn
from fedkt.models.net import net
from fedkt.strategy import Fused, Strategy

class Mean(Strategy):
    client = "logits"
    needs_transfer = True
    @classmethod
    def settings(cls, config):
        return {"form": "probabilities"}
    def fuse(self, contributions):
        return Fused({"values": contributions.values.mean(0)})

def small(input, classes):
    return net([nn.Flatten(), nn.Linear(4, 8), nn.Tanh()], 8, classes, dropout=0.0)

y = np.arange(60) % 3
x = (np.random.default_rng(0).normal(0, 0.3, (60, 4)) + np.eye(3, 4)[y]).astype("float32")
for engine in sys.argv[1:]:
    result = fedkt.simulate(
        None, ["rounds=2", f"engine.kind={engine}", "engine.workers=1", "engine.cohort=off"], data=(x, y),
        sites=["a", "b"] * 30, strategy=Mean, models=small, out=f"runs/{engine}")
    print(result.summary["accuracy"])
"""


@pytest.mark.slow
def test_a_launched_script_runs_its_own_on_every_engine_with_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", "inline", "processes", "ray", "flower"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{'global_mean'")]
    assert len(lines) == 4 and len(set(lines)) == 1, done.stdout


def test_trackers_and_progress_are_arguments(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("tensorboard")
    fedkt.simulate(
        None, FAST, data=(X, Y), sites=SITES, strategy="fd", progress=True, tensorboard=tmp_path / "tb",
        out=tmp_path / "run",
    )  # fmt: skip
    assert "fd over 3 clients, 1 rounds, engine inline" in capsys.readouterr().out
    assert list((tmp_path / "tb").rglob("events*"))


def test_a_notebook_gets_one_place_that_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    from fedkt.results import widget

    drawn: list[str] = []
    handle = types.SimpleNamespace(update=drawn.append)
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    shown = types.ModuleType("IPython.display")
    shown.HTML, shown.display = str, lambda html, display_id: handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    display = widget.progress_display()
    assert isinstance(display, widget.NotebookProgress)
    display.started(
        {"name": "<a>", "strategy": "fd", "clients": 2, "rounds": 4, "engine": "inline", "round": 0}
    )
    display.asked(2, "evaluate", 4)
    display.replied(2, "evaluate")
    display._draw()
    assert "&lt;a&gt;: fd over 2 clients" in drawn[0]
    # Round 2 of 4, half of it trained and a quarter of the rest measured.
    assert "<progress value='1.625' max='4'" in drawn[-1] and "round 2 of 4, evaluate 1/4" in drawn[-1]
    monkeypatch.setattr(shell, "config", {})
    assert type(widget.progress_display()).__name__ == "Progress"


def test_importing_needs_no_pandas(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, fedkt\n"
        "y = np.arange(60) % 3\n"
        "x = np.random.default_rng(0).normal(size=(60, 4)).astype('float32')\n"
        f"fedkt.simulate(None, {FAST!r}, data=(x, y), sites=['a', 'b'] * 30, strategy='fd', out='run')\n"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["clients"] == 2
