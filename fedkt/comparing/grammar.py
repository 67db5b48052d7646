"""What a comparison's options mean: strategies with settings, seeds, and settings with several values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from fedkt.errors import InputError
from fedkt.results.statistics import PLACEBO
from fedkt.scenario import parse_override

_CLOSING = {"[": "]", "{": "}", "(": ")"}
_SEEDS = re.compile(r"(\d+)(?:-(\d+))?")
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Method:
    """A strategy with its own settings, as a comparison names it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    """The settings as they were written."""
    placebo: bool = False
    """Whether its peers are placebo ones."""

    @property
    def label(self) -> str:
        """What tables and pictures call it: ``knfu``, ``knfu (beta=5, temperature=2)``, ``knfu, placebo``."""
        return (f"{self.name} ({self.words})" if self.words else self.name) + PLACEBO * self.placebo

    @property
    def part(self) -> dict[str, Any]:
        """The scenario's part ``strategy``."""
        return {"name": self.name, **self.settings}


@dataclass(frozen=True)
class Choice:
    """A setting with one of its values: ``key`` is dotted, ``text`` the value as it was written."""

    key: str
    text: str

    @property
    def override(self) -> str:
        """As ``--set`` has it."""
        return f"{self.key}={self.text}"


Choices = tuple[Choice, ...]


def split(text: str, at: str) -> list[str]:
    """Return the parts of a text between separators that stand outside brackets and quotes, stripped.

    >>> split("[a, b],c", ",")
    ['[a, b]', 'c']
    """
    parts, begin, closing, quote = [], 0, [], ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in _CLOSING:
            closing.append(_CLOSING[sign])
        elif closing and sign == closing[-1]:
            closing.pop()
        elif sign == at and not closing:
            parts.append(text[begin:place])
            begin = place + 1
    return [part.strip() for part in (*parts, text[begin:])]


def methods(text: str, option: str = "--strategies") -> list[Method]:
    """Read ``knfu:beta=5;temperature=2,local,my.module:Mine:trim=1``: names by comma, settings by semicolon.

    ``option``: what problems call it. Raises InputError with every problem.
    """
    found, problems = [], []
    for part in split(text, ","):
        try:
            found.append(_method(part))
        except InputError as error:
            problems += [f"{option}: {problem}" for problem in error.problems]
    problems += [
        f"{option}: '{label}' is named twice; name it once." for label in _twice([m.label for m in found])
    ]
    if problems:
        raise InputError(*problems)
    return found


def seeds(text: str) -> list[int]:
    """Read ``0-4`` or ``0,1,7-9``. Raises InputError."""
    found: list[int] = []
    for part in split(text, ","):
        match = _SEEDS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MOST_SEEDS:
            raise InputError(
                f"--seeds is {text!r}; it must be whole numbers and ranges of them, such as '0-4' or '0,2,5'."
            )
        found += range(first, last + 1)
    if _twice(found):
        raise InputError(f"--seeds is {text!r}, which names seed {_twice(found)[0]} twice; name it once.")
    return found


def values(text: str, option: str = "--set") -> list[Choice]:
    """Read ``a.b=v1,v2``: one choice per value. Raises InputError."""
    key, equals, rest = text.partition("=")
    found = [Choice(key.strip(), value) for value in split(rest, ",")] if equals else [Choice(text, "")]
    problems: list[str] = []
    for choice in found:
        try:
            parse_override(choice.override if equals else text)
        except InputError as error:
            problems += [problem.replace("--set", option, 1) for problem in error.problems]
    problems += [
        f"{option} {key.strip()}: the value {value} is named twice; name it once."
        for value in _twice([choice.text for choice in found])
    ]
    if problems:
        raise InputError(*problems)
    return found


def grid(texts: Sequence[str], option: str = "--set") -> tuple[list[str], list[Choices]]:
    """Return the overrides that are the same everywhere, and every combination of those with several values.

    Raises InputError with every problem, also where a setting is given twice.
    """
    read: list[list[Choice]] = []
    problems: list[str] = []
    for text in texts:
        try:
            read.append(values(text, option))
        except InputError as error:
            problems += error.problems
    swept = [choices for choices in read if len(choices) > 1]
    problems += [
        f"{option} {key}: it is swept twice; list all its values once, by comma."
        for key in _twice([choices[0].key for choices in swept])
    ]
    if problems:
        raise InputError(*problems)
    return [choices[0].override for choices in read if len(choices) == 1], list(product(*swept))


def short(choices: Choices) -> dict[str, str]:
    """Return choices by the shortest ends of their keys that tell them apart.

    >>> short((Choice("data.partition.alpha", "0.1"),))
    {'alpha': '0.1'}
    """
    keys = [choice.key.split(".") for choice in choices]
    named = {}
    for choice, parts in zip(choices, keys, strict=True):
        ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        name = next(
            (end for end in ends if sum(f".{k.key}".endswith(f".{end}") for k in choices) == 1), choice.key
        )
        named[name] = choice.text
    return named


def _method(text: str) -> Method:
    name, _, rest = text.partition(":")
    if rest and "=" not in rest.partition(":")[0].partition(";")[0]:
        attribute, _, rest = rest.partition(":")
        name = f"{name}:{attribute}"
    if not name.strip():
        raise InputError(f"{text!r} names no strategy; it must read NAME or NAME:setting=value.")
    settings: dict[str, Any] = {}
    parts = [part for part in split(rest, ";") if part]
    for part in parts:
        path, value = parse_override(part)
        holder = settings
        for key in path[:-1]:
            holder = holder.setdefault(str(key), {})
        holder[str(path[-1])] = value
    return Method(name.strip(), settings, ", ".join(parts))


def _twice(items: Sequence[Any]) -> list[Any]:
    return [item for item in dict.fromkeys(items) if items.count(item) > 1]
