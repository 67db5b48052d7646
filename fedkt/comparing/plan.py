"""Which runs a comparison consists of, all of them checked before anything starts."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedkt import data, scenario
from fedkt.comparing.grammar import Choices, Method, short
from fedkt.data import Federation
from fedkt.data.identity import data_hashes
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.world.unused import fitted, left_out_notes
from fedkt.errors import InputError, tried
from fedkt.results.comparison.frames import problem_of_target
from fedkt.scenario import Scenario, Source
from fedkt.tasks import task_of

BOUNDS = ("local", "central")
"""Strategies that stand in every comparison. They exchange nothing."""
EXCHANGE = re.compile(r"(privacy|robust)(\..*)?|attacks\.\d+\.kind")
"""Settings of how knowledge is exchanged, which do not concern the bounds."""
LONGEST = 80
"""Characters of a folder's name; longer ones end in a hash."""


@dataclass(frozen=True)
class Request:
    """What is asked for: every combination of the fields is a run."""

    sources: Sequence[Source]
    methods: Sequence[Method] = ()
    """Empty: the strategy that each scenario names."""
    seeds: Sequence[int] = ()
    """Empty: the scenario's own."""
    overrides: Sequence[str] = ()
    """The same for every run."""
    conditions: Sequence[Choices] = ((),)
    tried: Sequence[Choices] = ((),)
    """Settings of which each strategy gets its own best, by accuracy on validation rows."""
    placebo: bool = False
    """Whether each strategy also runs with placebo peers."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What the report compares by: ``baseline``, ``metric``, ``target``."""


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    scenario: Scenario
    method: Method
    condition: Choices
    tried: Choices
    path: str
    """The run's folder, below the comparison's."""
    left_out: tuple[str, ...] = ()
    """Settings that its strategy makes nothing of."""

    @property
    def about(self) -> dict[str, Any]:
        """What tells this run from the others, as JSON values."""
        return {
            "scenario": self.scenario.name,
            "method": self.method.label,
            "strategy": self.method.name,
            "condition": short(self.condition),
            "tried": short(self.tried),
            "seed": self.scenario.seed,
            "path": self.path,
        }


@dataclass(frozen=True)
class Impossible:
    """A strategy that cannot run on a scenario, and why."""

    scenario: str
    method: str
    condition: dict[str, str]
    reasons: tuple[str, ...]
    bound: bool = False
    """Whether nobody asked for it: it is only a bound."""

    def __str__(self) -> str:
        where = ", ".join([self.scenario, *(f"{key}={text}" for key, text in self.condition.items())])
        return f"{self.method} cannot run on {where}: {' '.join(self.reasons)}"


@dataclass
class Plan:
    """The runs, in the order in which they are run, and what was left out."""

    cells: list[Cell] = field(default_factory=list)
    impossible: list[Impossible] = field(default_factory=list)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of the data that the runs use, by :func:`data_key`."""

    @property
    def notes(self) -> list[str]:
        """What is to be told of settings that a strategy makes nothing of, other than the bounds."""
        asked = [cell for cell in self.cells if cell.method.name not in BOUNDS]
        return list(dict.fromkeys(n for cell in asked for n in left_out_notes(cell.scenario, cell.left_out)))


def data_key(scenario_: Scenario) -> str:
    """Return what runs on the same data have in common."""
    return repr((scenario_.data, scenario_.seed))


def plan(request: Request, data_dir: Path | None = None) -> Plan:
    """Resolve every run, check all of them and sort out what cannot run.

    Raises InputError where a scenario is wrong by itself, whatever the strategy.
    """
    problems: list[str] = []
    bases = [tried(problems, partial(_base, source, request)) for source in request.sources]
    names = [base.name for base in bases if base is not None]
    problems += [
        f"two scenarios are named '{name}'; give each a name of its own, since folders are named after it."
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if problems:
        raise InputError(*dict.fromkeys(problems))
    made = Plan()
    for source, base in zip(request.sources, bases, strict=True):
        assert base is not None
        for condition in request.conditions:
            _plan_condition(made, source, base, condition, request, data_dir, problems)
    problems += [*_idle(made.cells, request), *_unlike(made.cells, request)]
    if problems:
        raise InputError(*dict.fromkeys(problems))
    # Seeds outermost: an interrupted comparison has a complete one of fewer seeds.
    made.cells.sort(key=lambda cell: cell.scenario.seed)
    return made


def _idle(cells: Sequence[Cell], request: Request) -> Iterator[str]:
    """Yield what the command line sets although no strategy that is compared makes anything of it."""
    asked = [cell for cell in cells if cell.method.name not in BOUNDS] or cells
    idle = set.intersection(*(set(cell.left_out) for cell in asked)) if asked else set()
    choices = [c for several in (*request.conditions, *request.tried) for c in several]
    for key in dict.fromkeys(
        [text.partition("=")[0].strip() for text in request.overrides] + [c.key for c in choices]
    ):
        if any(f"{path}.".startswith(f"{key}.") for path in idle):
            yield f"--set {key}: no strategy of this comparison makes anything of it; leave it out."


def _unlike(cells: Sequence[Cell], request: Request) -> Iterator[str]:
    """Yield why what the runs reach cannot be set side by side, or not with the target."""
    tasks = {cell.scenario.data.task: cell.scenario for cell in reversed(cells)}
    if len(tasks) > 1:
        told = " and ".join(f"{its.name} is of data.task {task}" for task, its in reversed(tasks.items()))
        yield f"{told}, so their figures cannot be compared; compare scenarios of one task at a time."
    elif cells:
        yield from problem_of_target(request.shown.get("target"), task_of(cells[0].scenario.data).metric)


def _base(source: Source, request: Request) -> Scenario:
    base = scenario.load(source, request.overrides)
    for condition in request.conditions:
        for choices in request.tried:
            changes = _overrides((*condition, *choices), sure_only=True)
            scenario.load(source, [*request.overrides, *changes])
    if any(request.tried) and base.data.validation == 0:
        raise InputError(
            f"{base.name} sets no validation rows aside, so nothing can be tuned on them; "
            "add --set data.validation=0.2."
        )
    return base


def _overrides(choices: Choices, *, sure_only: bool = False) -> list[str]:
    """Return choices as overrides; ``sure_only`` leaves out those that depend on the strategy."""
    return [c.override for c in choices if not (sure_only and c.key.partition(".")[0] == "strategy")]


def _plan_condition(
    made: Plan,
    source: Source,
    base: Scenario,
    condition: Choices,
    request: Request,
    data_dir: Path | None,
    problems: list[str],
) -> None:
    """Add one condition's runs of a scenario."""
    federations: dict[str, Federation] = {}
    for method, bound in _with_bounds(request.methods or [_own(base)], request.placebo):
        found: list[Cell] = []
        reasons: list[str] = []
        for cell in _cells(source, base, method, condition, request, reasons):
            key = data_key(cell.scenario)
            if key not in federations:
                built = tried(problems, partial(data.build, cell.scenario, data_dir))
                if built is None:
                    return
                federations[key] = built
                if key not in made.hashes:  # of another condition
                    made.hashes[key] = data_hashes(built)
            if tried(reasons, partial(checked_world, cell.scenario, data_dir, federations[key])):
                found.append(cell)
        if reasons:
            told = tuple(dict.fromkeys(reasons))
            made.impossible.append(Impossible(base.name, method.label, short(condition), told, bound=bound))
        else:
            # Bounds are the same however knowledge is exchanged: one run stands for all.
            made.cells += found


def _own(base: Scenario) -> Method:
    words = ", ".join(f"{key}={value}" for key, value in base.strategy.settings.items())
    return Method(base.strategy.name, base.strategy.settings, words)


def _with_bounds(methods: Sequence[Method], placebo: bool) -> Iterator[tuple[Method, bool]]:
    """Yield the methods with the bounds around them, and whether each is a bound that nobody named.

    With ``placebo`` each is followed by the same with placebo peers, bounds but for: they have no peers.
    """
    named = {method.label for method in methods}
    local, central = (Method(name) for name in BOUNDS)
    if local.label not in named:
        yield local, True
    for method in methods:
        yield method, False
        if placebo and method.name not in BOUNDS:
            yield replace(method, placebo=True), False
    if central.label not in named:
        yield central, True


def _cells(
    source: Source,
    base: Scenario,
    method: Method,
    condition: Choices,
    request: Request,
    reasons: list[str],
) -> Iterator[Cell]:
    bound = method.name in BOUNDS
    # On the source, not on the resolved base: there defaults that follow from a swept setting are fixed.
    changes = [*request.overrides, f"strategy={json.dumps(method.part)}"]
    changes += ["privacy={mode: none}", "robust={}", "placebo=false", "forecast=none"] if bound else []
    changes += ["placebo=true"] if method.placebo else []
    several = bound or bool(request.methods)
    for setting in request.tried:
        both = (*condition, *setting)
        applied = tuple(c for c in both if not (bound and EXCHANGE.fullmatch(c.key)))
        for seed in request.seeds or [base.seed]:
            given = [*changes, *_overrides(applied), f"seed={seed}"]
            resolved = tried(reasons, partial(scenario.load, source, given, several=several))
            if resolved is not None:
                resolved, left_out = fitted(resolved)
                # Where a swept setting is left out, one run stands for all its values.
                counting = tuple(c for c in applied if c.key not in left_out)
                path = f"cells/{base.name}/{_folder(method.name)}/{_settings(method, counting)}/{seed}"
                yield Cell(resolved, method, condition, setting, path, tuple(left_out))


def _settings(method: Method, choices: Choices) -> str:
    parts = [method.words] if method.words else []
    parts += ["placebo"] if method.placebo else []
    return _folder(
        ",".join([*parts, *(f"{key}={text}" for key, text in short(choices).items())]) or "default"
    )


def _folder(text: str) -> str:
    """Return a text as a folder's name; where that loses something, a hash of it is added."""
    plain = re.sub(r"[^A-Za-z0-9._=,+-]", "-", text.replace(", ", ","))
    if plain == text.replace(", ", ",") and len(plain) <= LONGEST:
        return plain
    return f"{plain[: LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
