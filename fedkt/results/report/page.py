"""The page itself: a template, its style and its script, and the data, in one file."""

import base64
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fedkt.drawing import BOUNDS, DASHES, HUES, look
from fedkt.errors import InputError
from fedkt.files import write_atomic
from fedkt.results.comparison.frames import FILE, Comparison, problem_of_metric, problem_of_target
from fedkt.results.folder import is_run, package_version
from fedkt.results.report import collect, sentences
from fedkt.results.report.parties import domains_of, gains_of, texts_of
from fedkt.results.result import Result

PAGE = "report.html"
SCRIPT = (
    *("elements", "looks", "saving", "pdf", "figures"),
    *("curves", "tables", "clients", "fields", "scenarios", "page"),
)
"""The parts of the page's script, each of which uses those before it."""


def write_report(of: Comparison | Result) -> Path:
    """Write ``report.html`` into the folder of a comparison or a run, and return its path.

    A comparison gets its tables and pictures beside it, which the page does not need.
    """
    budget = ""
    if isinstance(of, Comparison):
        from fedkt.results.comparison.pictures import write_pictures
        from fedkt.results.comparison.tables import write_tables

        write_tables(of)
        write_pictures(of)
        beside = {"gained": gains_of(of)}
        data = collect.of_comparison(of)
        words, about = sentences.about_comparison(of), _about_comparison(of)
        methods, seeds = len(data["methods"]), len(data["seeds"])
        title = ", ".join(dict.fromkeys(block["scenario"] for block in data["blocks"]))
        under = f"{_count(methods, 'strategy', 'strategies')}, {_count(seeds, 'seed', 'seeds')}"
        if len(data["blocks"]) > 1:
            under += f", {len(data['blocks'])} scenarios and conditions"
    else:
        data = collect.of_run(of)
        words, about = sentences.about_run(of), _about_run(of.path)
        title = data["blocks"][0]["scenario"]
        under = f"{data['methods'][0]['label']}, seed {data['seeds'][0]}"
        if of.summary.get("privacy", {}).get("mode") != "none":
            budget = _budget(of.path)
        beside = {name: read(of.path) for name, read in BESIDE.items()}
    page = of.path / PAGE
    write_atomic(page, render(title, under, words, data, about, budget, **beside).encode())
    return page


def report_of(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write the report of whatever a folder holds; ``settings`` that are not None replace the comparison's.

    Raises InputError where it holds neither a comparison nor a run, or nothing of it has finished.
    """
    if (folder / FILE).is_file():
        comparison = Comparison.read(folder)
        given = {name: value for name, value in settings.items() if value is not None}
        comparison = Comparison(folder, {**comparison.book, "settings": comparison.settings | given})
        with _readable(folder):
            _check(comparison)
            return write_report(comparison)
    if is_run(folder):
        with _readable(folder):
            return write_report(Result.read(folder))
    raise InputError(
        f"{folder} holds neither a comparison nor a run; name a folder that fedkt compare or simulate made."
    )


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Raise InputError where a folder is damaged, or lacks what the block reads of it since another version
    wrote it. What goes wrong with a whole folder of this version is a fault of fedkt, and not hidden."""
    try:
        yield
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        if os.environ.get("FEDKT_DEBUG") == "1":
            raise
        if isinstance(error, json.JSONDecodeError):
            raise InputError(
                f"a file in {folder} is damaged ({error}); restore it, or run what wrote it again."
            ) from error
        now = str(package_version("fedkt"))
        others = sorted(_versions(folder) - {now})
        if not others:
            raise
        raise InputError(
            f"{folder} was written by fedkt {' and '.join(others)} and lacks what this one, {now}, reads of "
            f"it ({type(error).__name__}: {error}); make its report with that version, or run it again."
        ) from error


def _versions(folder: Path) -> set[str]:
    """Return which versions wrote the runs in a folder."""
    written = [json.loads(file.read_text(encoding="utf-8")) for file in folder.rglob("environment.json")]
    return {str(one.get("versions", {}).get("fedkt", "(no version named)")) for one in written}


def _check(comparison: Comparison) -> None:
    """Raise InputError where there is nothing to report, or it is not to be had as asked for."""
    if not comparison.chosen:
        raise InputError(
            f"no run in {comparison.path} has finished; continue it with fedkt compare --resume."
        )
    settings, methods = comparison.settings, list(comparison.runs["method"].unique())
    problems = problem_of_metric(settings["metric"])
    problems += problem_of_target(settings["target"], comparison.metric)
    if settings["baseline"] not in methods:
        known = ", ".join(methods)
        problems.append(
            f"--baseline is {settings['baseline']!r}, of which no run finished; it must be one of {known}."
        )
    if problems:
        raise InputError(*problems)


def _budget(run: Path) -> str:
    """Draw where a private run's budgets went; return the picture as an address, empty without one."""
    from fedkt.privacy.budget import draw_budget
    from fedkt.privacy.ledger import Declined

    try:
        drawn = draw_budget(run)
    except Declined:  # the statement says that a ledger cannot be trusted
        return ""
    return _address(drawn) if drawn else ""


def _tasks(run: Path) -> dict[str, Any] | None:
    """Return the figures of tasks in sequence and their picture's address; None where the run had none."""
    file, picture = run / "tasks.json", run / "tasks.png"
    if not (file.is_file() and picture.is_file()):
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    figures = [
        (name, f"{100 * mean:.1f} ± {100 * told['std'][name]:.1f}") for name, mean in told["mean"].items()
    ]
    return {"figures": figures, "picture": _address(picture)}


def _drift(run: Path) -> dict[str, Any] | None:
    """Return what was seen of drift, site by site, and its picture's address; None where nobody watched."""
    file, picture = run / "drift.json", run / "drift.png"
    if not (file.is_file() and picture.is_file()):
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    sites = [
        {"site": site, "alarms": ", ".join(map(str, its["alarms"])), "rows": when, **_standing(its[when])}
        for site, its in told["clients"].items()
        for when in ("then", "now")
        if when in its
    ]
    return {"sites": sites, "rule": told["rule"], "picture": _address(picture)}


def _standing(found: dict[str, Any]) -> dict[str, Any]:
    """Return how well the newest and older models do on the same rows, as texts."""
    older = "; ".join(f"{n}: {100 * was['accuracy']:.1f}" for n, was in found["older"].items())
    newest = f"{100 * found['newest']['accuracy']:.1f}"
    return {"newest": newest, "older": older, "back": found["go_back_to"] or ""}


def _address(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


BESIDE: dict[str, Callable[[Path], dict[str, Any] | None]] = {
    "tasks": _tasks,
    "drift": _drift,
    "domains": domains_of,
    "texts": texts_of,
}
"""What stands on the page of a run alone, by its name in the template: from the run's folder, None for
nothing. On that of a comparison alone stands what was ``gained``."""


def render(
    title: str,
    under: str,
    words: list[str],
    data: dict[str, Any],
    about: dict[str, Any],
    budget: str = "",
    **beside: dict[str, Any] | None,
) -> str:
    """Return the page as text; ``budget``: the address of a picture, or empty; ``beside``: what stands on the
    page of a run, or a comparison, alone, by its names in the template (:data:`BESIDE`, ``gained``)."""
    from jinja2 import Environment, StrictUndefined

    folder = files("fedkt.results.report")
    template, style = ((folder / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # "<" is escaped, so that no text of a run can end the script that holds the data.
    packed = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.from_string(template).render(
        title=title,
        under=under,
        words=words,
        data=packed,
        about=about,
        budget=budget,
        **{**dict.fromkeys((*BESIDE, "gained")), **beside},
        kind=data["kind"],
        figure=data["figure"]["title"][:1].upper() + data["figure"]["title"][1:],
        style=_hues() + style,
        script=_script(),
    )


def _hues() -> str:
    """Return the hues of strategies as the style's variables."""
    themes = {":root": HUES["light"], ':root[data-theme="dark"]': HUES["dark"]}
    return "".join(
        f"{theme} {{ {' '.join(f'--c{i}: {hue};' for i, hue in enumerate(hues))} }}\n"
        for theme, hues in themes.items()
    )


def _script() -> str:
    """Return the page's script: its parts as one closure, after the looks of lines."""
    folder = files("fedkt.results.report") / "script"
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPT]
    looks = json.dumps([look(place) for place in range(len(HUES["light"]) * len(DASHES))])
    return "\n".join(
        ['"use strict";\n(() => {', f"const LOOKS = {looks}, BOUNDS = {json.dumps(BOUNDS)};", *parts, "})();"]
    )


def _about_comparison(comparison: Comparison) -> dict[str, Any]:
    about = _about_run(comparison.path / comparison.chosen[0]["path"])
    scenarios = {}
    for cell in comparison.chosen:
        name = " ".join(part for part in (cell["scenario"], cell["condition"], cell["method"]) if part)
        if name not in scenarios:
            scenarios[name] = _text(comparison.path / cell["path"] / "scenario.yaml")
    return about | {
        "command": shlex.join(comparison.book.get("command", [])),
        "started": comparison.book.get("started", ""),
        "scenarios": scenarios,
    }


def _about_run(folder: Path) -> dict[str, Any]:
    file = folder / "environment.json"
    environment = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    versions = {name: text for name, text in environment.get("versions", {}).items() if text}
    program, *arguments = environment.get("command") or [""]
    return {
        "command": shlex.join([Path(program).name, *arguments]) if program else "",
        "started": environment.get("started", ""),
        "machine": f"{environment.get('platform', '')}, {environment.get('cpus', '?')} processors",
        "versions": {"Python": environment.get("python", ""), **versions},
        "scenarios": {folder.name: _text(folder / "scenario.yaml")},
    }


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
