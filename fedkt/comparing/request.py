"""``fedkt compare``, and the same from Python: from text to a comparison and its report."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedkt.comparing.campaign import compare
from fedkt.comparing.grammar import Method, grid, methods
from fedkt.comparing.grammar import seeds as read_seeds
from fedkt.comparing.plan import BOUNDS, Request
from fedkt.comparing.watching import ComparisonProgress
from fedkt.errors import InputError, RunError, tried
from fedkt.results.comparison.frames import FILE, Comparison, problem_of_metric
from fedkt.results.folder import unused_path
from fedkt.scenario import Source, plain


def read_request(
    sources: Sequence[Source],
    *,
    strategies: "str | Sequence[Any] | None" = None,
    seeds: str | None = None,
    sets: Sequence[str] = (),
    tune: Sequence[str] = (),
    baseline: str = "local",
    metric: str = "personal",
    target: float | None = None,
    engine: str = "inline",
    address: str | None = None,
    placebo: bool = False,
) -> Request:
    """Read the options of ``fedkt compare``. Raises InputError with every problem."""
    problems: list[str] = []

    def attempt(step: Any, instead: Any) -> Any:
        found = tried(problems, step)
        return instead if found is None else found

    named = attempt(lambda: _methods(strategies) if strategies is not None else [], [])
    numbers = attempt(lambda: read_seeds(seeds) if seeds is not None else [], [])
    fixed, conditions = attempt(lambda: grid(sets), ([], [()]))
    single, tuned = attempt(lambda: grid(tune, "--tune"), ([], [()]))
    problems += [f"--tune {text}: it has one value; give several, or use --set." for text in single]
    shown = {"baseline": baseline, "metric": metric, "target": target}
    problems += problem_of_metric(metric)
    known = {method.label for method in named} | {"local", "central"}
    known |= {replace(m, placebo=True).label for m in named if placebo and m.name not in BOUNDS}
    if strategies is not None and baseline not in known:
        problems.append(
            f"--baseline is {baseline!r}; it must be one of what is compared: {', '.join(sorted(known))}."
        )
    if problems:
        raise InputError(*problems)
    fixed = [*fixed, f"engine.kind={engine}"]
    if address is not None:
        fixed.append(f"engine.address={json.dumps(address)}")
    return Request(sources, named, numbers, fixed, conditions, tuned, placebo, shown)


def _methods(strategies: "str | Sequence[Any]") -> list[Method]:
    """Read ``"knfu:beta=5,fd"``, or a list of such texts, mappings with a name, and strategies."""
    if isinstance(strategies, str):
        return methods(strategies)
    found: list[Method] = []
    for entry in strategies:
        if isinstance(entry, str):
            found += methods(entry, "strategies")
            continue
        part = plain(entry)
        part = {"name": part} if isinstance(part, str) else part
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise InputError(
                f"strategies: {entry!r} is no strategy; an entry must be a name, a mapping such as "
                "{'name': 'knfu', 'beta': 5}, or a strategy."
            )
        settings = {key: value for key, value in part.items() if key != "name"}
        words = ", ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
        found.append(Method(part["name"], settings, words))
    twice = [m.label for i, m in enumerate(found) if m.label in {n.label for n in found[:i]}]
    if twice:
        raise InputError(f"strategies: {twice[0]!r} is named twice; name it once.")
    return found


def compare_command(
    request: Request, *, out: Path | None, quiet: bool, again: Sequence[str] = (), **how: Any
) -> Comparison:
    """Run a comparison and write its report.

    ``again``: the command line, to say how an interrupted comparison is continued; ``how``: the rest of
    what :func:`fedkt.comparing.campaign.compare` takes. Raises InputError, and RunError after the report was
    written where a run failed.
    """
    resume = how.get("resume", False)
    if resume and out is None:
        raise InputError("--resume needs --out; name the folder of the comparison to continue.")
    folder = out or unused_path(f"compare-{_names(request.sources)}")
    try:
        done = compare(request, out=folder, watcher=None if quiet else ComparisonProgress(), **how)
    except KeyboardInterrupt:
        if not again or not (folder / FILE).is_file():
            raise
        words = [*again, *([] if out else ["--out", str(folder)]), *([] if resume else ["--resume"])]
        raise KeyboardInterrupt(
            f"interrupted; finished runs are kept, continue with: {shlex.join(words)}"
        ) from None
    finish(done, quiet)
    return done


def _names(sources: Sequence[Source]) -> str:
    names = [Path(source).stem for source in sources if isinstance(source, str) and "\n" not in source]
    return "-".join(names)[:60] or "scenario"


def finish(done: Comparison, quiet: bool) -> None:
    """Write the report of a comparison, print its table, and raise RunError where a run failed."""
    from fedkt.results.comparison.tables import print_summary
    from fedkt.results.report import write_report

    if done.chosen:
        page = write_report(done)
        if not quiet:
            print_summary(done, page)
    if done.problems:
        raise RunError(
            f"{len(done.problems)} of {len(done.cells)} runs have no result; --resume tries them again. "
            f"The first: {done.problems[0]}"
        )
