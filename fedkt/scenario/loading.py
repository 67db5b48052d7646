"""From a file, a bundled name, YAML text or a mapping to a Scenario, with all problems of it at once."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from numbers import Integral, Real
from os import PathLike
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from fedkt.errors import InputError
from fedkt.registry import did_you_mean, give, only_here, path_of, take
from fedkt.scenario.explain import explain
from fedkt.scenario.schema import Scenario
from fedkt.scenario.yaml12 import Path, dotted, parse, write

_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "a truth value"}

Source = str | PathLike[str] | Mapping[str, Any] | Scenario


class _Where(NamedTuple):
    """Where a value was written: the order in which problems are told, and how they begin."""

    order: int
    label: str


class _Draft:
    """A scenario before it is checked: plain values, where each was written, and problems so far."""

    def __init__(self, label: str) -> None:
        self.value: Any = {}
        self.label = label
        self.places: dict[Path, _Where] = {}
        self.problems: list[tuple[int, str]] = []
        self.unreadable: set[Path] = set()
        self.given: dict[str, Any] = {}

    def at_line(self, line: int) -> _Where:
        return _Where(line, f"{self.label}:{line}: ")

    def complain(self, where: _Where, problem: str) -> None:
        self.problems.append((where.order, where.label + problem))

    def where(self, path: Path) -> _Where:
        """Return where a value, or else the nearest part around it, was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return _Where(0, "")

    def give(self, plugin: Any) -> str:
        """Return the name of what cannot be imported, another one for each that this draft holds."""
        number = 1
        while (name := give(plugin, number)) in self.given and self.given[name] is not plugin:
            take({name: self.given[name]})
            number += 1
        self.given[name] = plugin
        return name

    def set(self, path: Path, value: Any, where: _Where) -> None:
        """Replace the value at ``path``; parts on the way there that are absent or null are created."""
        holder = self.value
        for depth, part in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(holder, list):
                if not str(part).isdecimal() or int(part) >= len(holder):
                    places = f"0 to {len(holder) - 1}" if holder else "none, it is empty"
                    around = dotted(path[:depth])
                    problem = f"{around} is a list without place {part!r}; its places are {places}."
                    self.complain(where, problem)
                    return
                part = int(part)
            elif not isinstance(holder, dict):
                around = dotted(path[:depth])
                problem = f"{around} is {holder!r}, which has no settings within; set {around} itself."
                self.complain(where, problem)
                return
            path = (*path[:depth], part, *path[depth + 1 :])
            here = path[: depth + 1]
            if last:
                holder[part] = value
                self.places = {old: place for old, place in self.places.items() if old[: depth + 1] != here}
                self.places[here] = where
                self.unreadable.discard(here)
            else:
                there = holder.get(part) if isinstance(holder, dict) else holder[part]
                if there is None:
                    holder[part] = {}
                    self.places[here] = where
                elif isinstance(there, str) and _may_be_a_bare_name(here):
                    holder[part] = {"name": there}
                holder = holder[part]


def _may_be_a_bare_name(path: Path) -> bool:
    """Say whether a name alone stands for ``{name: …}`` there."""
    return path in (("strategy",), ("server_model", "model")) or (
        path[:2] == ("clients", "models") and len(path) == 3
    )


def load(source: Source, overrides: Sequence[str] = (), *, several: bool = False) -> Scenario:
    """Return the checked scenario of a source.

    Whether plug-ins exist and the data fits is checked where it is run. ``model_fields_set`` of each part
    holds what was written for the scenario's strategy: everything, or, where overrides replace the strategy
    that the source names, the overrides alone.

    Args:
        source: the path of a YAML file, the name of a bundled scenario (with or without ``.yaml``), YAML text
            (recognised by a line break), a mapping, or a Scenario. In a mapping, functions and classes may
            stand where YAML has ``package.module:name``; those of a notebook or a launched script become
            ``here:name``, which this process finds, and those that it sends them to.
        overrides: settings to change afterwards, ``a.b=value``; the value is YAML.
        several: whether source and overrides serve several strategies, so that nothing was written for this
            one.

    Raises:
        InputError: with every problem, each with its line and what would be right.

    >>> load("quickstart", ["data.partition.alpha=0.1"]).data.partition.alpha
    0.1
    """
    meant: set[Path] = {()}
    if isinstance(source, Scenario):
        meant = set(_written(source))
        source = to_dict(source)
    if isinstance(source, Mapping):
        draft = _Draft("")
        draft.value = _plain(source, (), draft)
    else:
        draft = _parsed(*_text_of(source))
    named = _strategy_of(draft.value)
    changed = {path for number, text in enumerate(overrides) if (path := _override(draft, number, text))}
    if several:
        meant = set()
    elif _strategy_of(draft.value) != named:
        meant = changed
    else:
        meant |= changed
    scenario = None
    try:
        scenario = Scenario.model_validate(draft.value)
    except ValidationError as error:
        for path, problem in explain(error):
            if path not in draft.unreadable:
                draft.complain(draft.where(path), problem)
    if scenario is None or draft.problems:
        # The order of the file, then of the overrides.
        raise InputError(*dict.fromkeys(text for _, text in sorted(draft.problems, key=lambda item: item[0])))
    _keep(scenario, meant)
    return scenario


def dump(scenario: Scenario) -> str:
    """Return a scenario as YAML with every default written out; ``load(dump(s)) == s``."""
    return write(to_dict(scenario))


def to_dict(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as plain mappings, lists, text and numbers (``json.dumps`` takes it)."""
    draft = _Draft("")
    value: dict[str, Any] = _plain(scenario.model_dump(by_alias=True), (), draft)
    if draft.problems:
        raise InputError(*(text for _, text in draft.problems))
    return value


def from_dict(values: Mapping[str, Any]) -> Scenario:
    """Return the checked scenario of a mapping: the inverse of ``to_dict``."""
    return load(values)


def check_importable(scenario: Scenario) -> None:
    """Raise InputError where another machine would have to import what only this process can find."""
    lost = only_here(to_dict(scenario))
    if lost:
        raise InputError(
            *(
                f"{name!r} was defined in a notebook or a launched script, and a site would have to import "
                "it; define it in a module that sites have too, and write 'package.module:name'."
                for name in dict.fromkeys(lost)
            )
        )


def plain(values: Any) -> Any:
    """Return Python values as a scenario's YAML would give them. Raises InputError."""
    draft = _Draft("")
    found = _plain(values, (), draft)
    if draft.problems:
        raise InputError(*(text for _, text in draft.problems))
    return found


def bundled() -> list[str]:
    """Return the names of the scenarios that come with fedkt, sorted."""
    try:
        folder = files("fedkt.scenarios")
    except ModuleNotFoundError:  # a checkout that is not installed: the folder is not mapped
        return []
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def parse_override(text: str) -> tuple[Path, Any]:
    """Return the path and the value of ``a.b=VALUE``; VALUE is YAML. Raises InputError."""
    key, equals, value_text = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    where = f"--set {key.strip()}: "
    if not equals or not all(path):
        raise InputError(f"{where}this sets nothing; it must read KEY=VALUE, such as engine.kind=inline.")
    document = parse(value_text)
    if document.problems:
        raise InputError(*(where + problem for _, problem in document.problems))
    return path, document.value


def _override(draft: _Draft, number: int, text: str) -> Path | None:
    """Change a draft; return what was changed."""
    order = sys.maxsize // 2 + number
    try:
        path, value = parse_override(text)
    except InputError as error:
        draft.problems += [(order, problem) for problem in error.problems]
        return None
    if isinstance(draft.value, dict):  # else the file as a whole is wrong, which is told already
        draft.set(path, value, _Where(order, f"--set {dotted(path)}: "))
    return path


def _strategy_of(value: Any) -> Any:
    """Return the strategy that a draft names, or else the default."""
    part = value.get("strategy") if isinstance(value, dict) else None
    name = part.get("name") if isinstance(part, dict) else part  # a bare name stands for a mapping
    return name if name is not None else Scenario.model_fields["strategy"].default.name


def _written(part: BaseModel, path: Path = ()) -> Iterator[Path]:
    """Yield the settings that were written, at the ends of the tree of parts."""
    for name in part.model_fields_set:
        value, here = getattr(part, name), (*path, _key(part, name))
        if isinstance(value, BaseModel):
            yield from _written(value, here)
        else:
            yield here


def _keep(part: BaseModel, meant: set[Path], path: Path = ()) -> None:
    """Note all settings but those at or below ``meant`` as not written."""
    for name in list(part.model_fields_set):
        value, here = getattr(part, name), (*path, _key(part, name))
        if any(here[:length] in meant for length in range(len(here) + 1)):
            continue
        if isinstance(value, BaseModel):
            _keep(value, meant, here)
        else:
            part.model_fields_set.discard(name)


def _key(part: BaseModel, name: str) -> str:
    """Return what YAML calls a field."""
    field = type(part).model_fields.get(name)
    return name if field is None else field.alias or name


def _text_of(source: str | PathLike[str]) -> tuple[str, str]:
    """Return a source's YAML text and what to call it in errors."""
    name = str(source)
    if isinstance(source, str) and "\n" in source:
        return source, "scenario"
    try:
        if FilePath(name).is_file():
            return FilePath(name).read_text(encoding="utf-8"), name
        stem = name.removesuffix(".yaml")
        if stem in bundled():
            return (files("fedkt.scenarios") / f"{stem}.yaml").read_text(encoding="utf-8"), f"{stem}.yaml"
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text; it must be a YAML file.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name} cannot be read ({reason}); it must be a readable YAML file.") from None
    if FilePath(name).is_dir():
        raise InputError(f"{name} is a folder; a scenario must be a YAML file or the name of a bundled one.")
    names = bundled()
    ending = did_you_mean(FilePath(stem).name, names) if names else "it must be the path of a YAML file."
    raise InputError(f"there is no scenario {name!r}, neither a file nor bundled; {ending}")


def _parsed(text: str, label: str) -> _Draft:
    """Return the draft of a YAML text. Raises InputError where it is not a mapping at all."""
    draft, document = _Draft(label), parse(text)
    for line, problem in document.problems:
        draft.complain(draft.at_line(line), problem)
    draft.value, draft.unreadable = document.value, document.unreadable
    draft.places = {path: draft.at_line(line) for path, line in document.lines.items()}
    if not isinstance(draft.value, dict):
        if not draft.problems:
            what = "is empty" if draft.value is None else f"holds {_KINDS[type(draft.value)]}"
            raise InputError(f"{label} {what}; it must be a mapping of settings, such as 'name: my-run'.")
        raise InputError(*(problem for _, problem in draft.problems))
    return draft


def _plain(value: Any, path: Path, draft: _Draft) -> Any:
    """Return a Python value as YAML would give it: dicts, lists, text, numbers; plug-ins by their path."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):  # NumPy's numbers too
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, PathLike):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, (*path, key), draft) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, at), draft) for at, item in enumerate(value)]
    if callable(stands_for := getattr(value, "as_setting", None)) and not isinstance(value, type):
        return _plain(stands_for(), path, draft)  # such as a strategy with settings of its own
    try:
        return path_of(value)
    except InputError as error:
        if callable(value):
            return draft.give(value)
        draft.unreadable.add(path)
        draft.problems.append((0, f"{dotted(path)}: {error}"))
        return None
