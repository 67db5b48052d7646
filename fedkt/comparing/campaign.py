"""A comparison from the request to the report: plan, find what is done, run the rest, sum up."""

import base64
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedkt import data, registry, scenario
from fedkt.comparing.plan import Cell, Plan, Request, data_key, plan
from fedkt.comparing.pool import Told, run_here
from fedkt.comparing.watching import ComparisonProgress
from fedkt.data.identity import data_hashes
from fedkt.errors import InputError
from fedkt.files import processors, write_atomic, write_json
from fedkt.results.comparison.frames import FILE, Comparison
from fedkt.results.folder import check_data, is_run, lock_folder, run_state
from fedkt.results.trackers import end_parent, kill_parent, parent_run, require
from fedkt.scenario import Engine


def compare(
    request: Request,
    *,
    out: Path,
    resume: bool = False,
    skip_impossible: bool = False,
    jobs: int | None = None,
    data_dir: Path | None = None,
    watcher: ComparisonProgress | None = None,
    sinks: Mapping[str, Any] | None = None,
) -> Comparison:
    """Run every combination that a request names and return the comparison.

    ``out``: the comparison's folder, which is locked meanwhile; with ``resume`` finished runs in it are
    kept, others are continued, and more may be asked for than before. ``jobs``: how many runs at a time
    (default: one per processor). Where ``engine.address`` is set, runs go to that Ray cluster instead.
    ``sinks``: where runs are shown live (``tensorboard``: a folder, ``mlflow``: a store).

    Raises InputError before anything is written. A run that fails is noted as failed and stops no other.
    """
    made = plan(request, data_dir)
    refused = [one for one in made.impossible if not one.bound]
    if refused and not skip_impossible:
        rest = "nothing else is left." if not made.cells else "add --skip-impossible to run the rest."
        raise InputError(*map(str, refused), f"{len(refused)} of the combinations cannot run; {rest}")
    if not made.cells:
        raise InputError(*map(str, made.impossible))
    _check(out, resume)
    lock = lock_folder(out)
    live: dict[str, Any] = {}
    try:
        _check_data(out, made, data_dir)
        live = _start(sinks or {}, out)  # first: where it cannot be, the folder is still unused
        book = _Book(out, made, request.shown)
        if watcher is not None:
            waiting = [record["rounds"] for record in book.records.values() if record["status"] == "waiting"]
            watcher.started(len(book.records), book.count("finished"), sum(waiting))
            for note in made.notes:
                watcher.noted(note)
        todo = [cell for cell in book.cells if book.records[cell.path]["status"] == "waiting"]
        for cell, event in _run(todo, out, jobs, data_dir, live, made.hashes):
            book.note(cell, event)
            if watcher is not None and event["event"] == "round":
                watcher.at_round(cell, event["round"])
            elif watcher is not None and event["event"] in ("done", "failed"):
                watcher.ended(cell, book.records[cell.path])
    except KeyboardInterrupt:
        if "parent" in live:
            kill_parent(live["mlflow"], live["parent"])
        raise
    finally:
        if watcher is not None:
            watcher.close()
        lock.close()
    done = Comparison.read(out)
    if "parent" in live:
        end_parent(live["mlflow"], live["parent"], done.path)
    return done


def _check(folder: Path, resume: bool) -> None:
    used = folder.is_dir() and any(path.name != ".lock" for path in folder.iterdir())
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the comparison with --out.")
    if used and not (folder / FILE).is_file():
        raise InputError(f"{folder} holds no comparison; name another folder with --out.")
    if used and not resume:
        raise InputError(
            f"{folder} holds a comparison already; continue it with --resume or name another with --out."
        )
    if resume and not used:
        raise InputError(f"{folder} holds no comparison to resume; leave --resume out to start one in it.")


def _check_data(folder: Path, made: Plan, data_dir: Path | None) -> None:
    """Raise InputError where runs that are there, planned now or by an earlier call, used other data."""
    problems: list[str] = []
    for one in _before(folder).get("cells", ()):
        run = folder / str(one.get("path"))
        if not is_run(run):
            continue
        try:
            described = scenario.load(run / "scenario.yaml")
            key = data_key(described)
            if key not in made.hashes:
                made.hashes[key] = data_hashes(data.build(described, data_dir))
            check_data(run, made.hashes[key])
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(
            f"{problems[0].rstrip('.')}; {len(problems)} runs of the comparison could not be compared."
            if len(problems) > 1
            else problems[0]
        )


class _Book:
    """``comparison.json``: what every run is and how far it is; on disk after every change."""

    def __init__(self, folder: Path, made: Plan, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.made = made
        self.cells = list({cell.path: cell for cell in made.cells}.values())
        """One for each folder: bounds stand for several conditions."""
        before = _before(folder)
        self.settings = dict(before.get("settings", {})) | dict(settings)
        self.started = before.get("started") or time.strftime("%Y-%m-%dT%H:%M:%S%z")
        seconds = {one["path"]: one.get("seconds") for one in before.get("cells", ())}
        self.records = {cell.path: self._record(cell, seconds.get(cell.path)) for cell in self.cells}
        # What an earlier call of this comparison planned stays in it.
        told = {json.dumps(cell.about, sort_keys=True) for cell in made.cells}
        self.earlier = [
            one
            for one in before.get("cells", ())
            if json.dumps({key: one.get(key) for key in made.cells[0].about}, sort_keys=True) not in told
        ]
        self.write()

    def count(self, status: str) -> int:
        """Count the runs of a status."""
        return sum(record["status"] == status for record in self.records.values())

    def note(self, cell: Cell, event: Mapping[str, Any]) -> None:
        """Note what is told of a run."""
        record = self.records[cell.path]
        if event["event"] in ("started", "round"):
            return
        record["status"] = "finished" if event["event"] == "done" else "failed"
        record["error"] = event.get("error")
        record["seconds"] = event.get("seconds")
        if "traceback" in event:
            name = cell.path.removeprefix("cells/").replace("/", "-")
            write_atomic(self.folder / "failures" / f"{name}.txt", event["traceback"].encode())
        self.write()

    def write(self) -> None:
        """Bring the book to disk."""
        cells = [cell.about | self.records[cell.path] for cell in self.made.cells]
        impossible = [
            {"scenario": i.scenario, "method": i.method, "condition": i.condition, "reasons": list(i.reasons)}
            for i in self.made.impossible
        ]
        content = {
            "fedkt": version("fedkt"),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "started": self.started,
            "settings": self.settings,
            "cells": [*self.earlier, *cells],
            "impossible": impossible,
        }
        write_json(self.folder / FILE, content)

    def _record(self, cell: Cell, seconds: float | None) -> dict[str, Any]:
        error, status = None, "waiting"
        try:
            state = run_state(self.folder / cell.path, cell.scenario)
            status = "finished" if state == "finished" else "waiting"
        except InputError as problem:
            status, error = "foreign", str(problem)
        return {"status": status, "error": error, "seconds": seconds, "rounds": cell.scenario.rounds}


def _before(folder: Path) -> dict[str, Any]:
    if not (folder / FILE).is_file():
        return {}
    try:
        return dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{folder / FILE} is damaged; name another folder with --out.") from None


def _run(
    cells: Sequence[Cell],
    folder: Path,
    jobs: int | None,
    data_dir: Path | None,
    live: Mapping[str, Any],
    hashes: Mapping[str, Mapping[str, str]],
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Run cells and yield what is told of each: on the machine or the cluster that their engine names."""
    by_place: dict[str | None, list[Cell]] = {}
    for cell in cells:
        by_place.setdefault(cell.scenario.engine.address, []).append(cell)
    for address, here in by_place.items():
        orders = [_job(cell, folder, data_dir, live, hashes[data_key(cell.scenario)]) for cell in here]
        engine = here[0].scenario.engine
        if address is not None and engine.kind == "inline":
            from fedkt.comparing.on_cluster import run_there

            told: Iterable[Told] = run_there(orders, engine)
        else:
            told = run_here(orders, jobs or _workers(engine), _gpus(engine))
        for number, event in told:
            yield here[number], event


def _start(asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the live views of a comparison's runs; in MLflow they are nested in one of its own."""
    live = {name: str(where) for name, where in asked.items() if where is not None}
    for name in live:
        require(name)
    if "mlflow" in live:
        live["parent"] = parent_run(live["mlflow"], folder, " ".join(sys.argv))
    return live


def _job(
    cell: Cell, folder: Path, data_dir: Path | None, live: Mapping[str, Any], hashes: Mapping[str, str]
) -> dict[str, Any]:
    out = folder / cell.path
    own = dict(live)
    if "tensorboard" in own:
        own["tensorboard"] = str(Path(own["tensorboard"]).absolute() / cell.path.removeprefix("cells/"))
    described = scenario.to_dict(cell.scenario)
    return {
        "scenario": described,
        "given": _by_value(registry.given(described)),
        "out": str(out.absolute()),
        "resume": run_state(out, cell.scenario) == "unfinished",
        "data_dir": None if data_dir is None else str(data_dir.absolute()),
        "hashes": dict(hashes),
        "sinks": own,
    }


def _by_value(plugins: Mapping[str, Any]) -> str:
    """Return what a run's process has to find although it cannot be imported, as text."""
    if not plugins:
        return ""
    from fedkt.engine.runtimes.cluster import by_value

    return base64.b64encode(by_value(plugins)).decode()


def _gpus(engine: Engine) -> int:
    if not engine.gpus:
        return 0
    import torch

    return int(torch.cuda.device_count())


def _workers(engine: Engine) -> int:
    """Return how many runs at a time suit an engine: the others than inline take the whole machine."""
    if engine.kind != "inline":
        return 1
    by_cpu = max(1, int(processors() / engine.cpus))
    return min(by_cpu, max(1, int(_gpus(engine) / engine.gpus))) if engine.gpus else by_cpu
