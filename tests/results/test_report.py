"""The report of a comparison and of a run: what it says and holds, and how it behaves in a browser."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import fedkt
from fedkt import scenario as scenarios
from fedkt.cli.commands import app
from fedkt.errors import InputError
from fedkt.files import write_atomic, write_json
from fedkt.results.measured import read_measured
from fedkt.results.report import report_of
from fedkt.results.report.collect import NOTHING, _matrices, _packed

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
        lines += [
            {"round": number, "client": k, "status": "accepted", "personal": value, "global": value - 0.1}
            | {"bytes": {"up": 100, "down": 100}}
            for k, value in enumerate(each)
        ]
    write_atomic(folder / "rounds.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    write_atomic(folder / "clients.jsonl", "".join(json.dumps(row) + "\n" for row in lines).encode())
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
    assert "+20.0 ± 0.0 points against local" in text
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
        expected = "table curves gains heat matrix ranks bytes partition privacy problems about"
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
        value = "document.querySelector('#table tbody tr td:nth-child(3)').textContent"
        before = await tab.run(value)
        await tab.run(CHOOSE.format("#controls select", 1, "change"))
        assert await tab.run(value) != before
        # Pictures can be read with the keys alone.
        await tab.run("document.querySelector('#heat canvas').focus()")
        await tab.press("ArrowRight")
        told = await tab.run("document.querySelector('#tip').textContent")
        assert re.fullmatch(r"client \d, round 2: \d+ %", told), told
        await tab.run("document.querySelector('#curves svg').focus()")
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
            "curves",
            "heat",
            "matrix",
            "bytes",
            "partition",
            "privacy",
            "about",
        ]
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
