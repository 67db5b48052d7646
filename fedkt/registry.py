"""Plug-ins found by name: entry points for what is installed, ``package.module:name`` for anything else.

The core never imports a strategy or a client behaviour; it asks here. fedkt's own plug-ins are registered
in ``pyproject.toml`` exactly as a third party's are.
"""

import ast
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from fedkt.errors import InputError

GROUPS = ("strategies", "clients", "models", "datasets", "losses", "generators")
IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
"""``package.module:name``. A data set such as ``npz:mnist.npz`` looks the same: look for prefixes first."""

F = TypeVar("F", bound=Callable[..., Any])

HERE = "here:"
"""Before the name of something that only this process, and those that it sends it to, can find."""
_given: dict[str, Any] = {}

_SINGULAR = {
    "strategies": "strategy",
    "clients": "client behaviour",
    "models": "model",
    "datasets": "dataset",
    "losses": "loss",
    "generators": "generator",
}


def find(group: str, name: Any) -> Any:
    """Return the plug-in that ``name`` stands for; an object given instead of a name is returned unchanged.

    ``name`` is the name of an entry point of ``fedkt.<group>`` or ``package.module:name``.
    Raises InputError, naming the nearest valid names, where there is none or it cannot be imported.
    """
    if not isinstance(name, str):
        return name
    what = f"{_noun(group)} {name!r}"
    if name.startswith(HERE):
        if name not in _given:
            raise InputError(
                f"{what} was defined in a notebook or a launched script and is not here; define it in a "
                "module that can be imported, and write 'package.module:name'."
            )
        return _given[name]
    if ":" in name:
        return _import(what, name)
    points = _entry_points(group)
    if name not in points:
        raise InputError(f"there is no {what}; {did_you_mean(name, points)}")
    found = points[name]
    if len(found) > 1:
        raise InputError(
            f"{what} is registered more than once, as {' and as '.join(p.value for p in found)}; "
            "uninstall one, or write the full 'package.module:name' instead."
        )
    try:
        return found[0].load()
    except Exception as error:
        raise InputError(f"{what} ({found[0].value}) cannot be imported: {_reason(error)}.") from error


def names(group: str) -> list[str]:
    """Return the names registered in a group, sorted; nothing is imported."""
    return list(_entry_points(group))


def describe(group: str) -> list[tuple[str, str]]:
    """Return (name, first line of its docstring) of every plug-in of a group, sorted by name.

    Read from the source, since importing all of a group takes seconds; imported where that does not say it.
    One that cannot be imported is listed with the reason and hides none of the others.
    """
    rows = []
    for name in names(group):
        try:
            read = _source_line(_entry_points(group)[name])
            rows.append((name, _first_line(find(group, name)) if read is None else read))
        except (Exception, SystemExit) as error:  # a plug-in's own mistake, even an exit at import
            rows.append((name, _reason(error)))
    return rows


def returns(group: str) -> dict[str, str]:
    """Return what the functions of a group say that they return, by name: the last word of the annotation.

    Read from the source; empty where that does not say it.
    """
    found = {}
    for name in names(group):
        node = _node(_entry_points(group)[name])
        said = ast.unparse(node.returns) if isinstance(node, ast.FunctionDef) and node.returns else ""
        found[name] = said.strip("\"'").rpartition(".")[2]
    return found


def path_of(plugin: Any) -> str:
    """Return ``package.module:name`` of a function or class: what a scenario writes for it.

    Raises InputError for one that another process could not import: those of a launched script or a
    notebook, of a function's body, and lambdas.
    """
    module, name = getattr(plugin, "__module__", None), getattr(plugin, "__qualname__", None)
    if not module or not name or module == "__main__" or not IMPORT_PATH.fullmatch(f"{module}:{name}"):
        raise InputError(
            f"{plugin!r} cannot be imported by other processes; define it at the top level of a module "
            "that is not the launched script."
        )
    return f"{module}:{name}"


def give(plugin: Any, number: int = 1) -> str:
    """Keep a plug-in that cannot be imported, and return the name under which :func:`find` finds it.

    The newest under a name counts, as with a notebook's cell that is run again; ``number`` tells apart those
    of one name that belong together.

    >>> find("models", give(lambda input, classes: None)).__name__
    '<lambda>'
    """
    own = getattr(plugin, "__qualname__", type(plugin).__qualname__).rpartition("<locals>.")[2]
    plain = re.sub(r"\W", "_", own).strip("_")
    name = f"{HERE}{plain}" + (f"_{number}" if number > 1 else "")
    _given[name] = plugin
    return name


def given(values: Any) -> dict[str, Any]:
    """Return what was given of all that a scenario's plain values name: for processes that are to find it."""
    if isinstance(values, str):
        return {values: _given[values]} if values in _given else {}
    parts = (
        values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else ()
    )
    return {name: plugin for part in parts for name, plugin in given(part).items()}


def take(plugins: Mapping[str, Any]) -> None:
    """Let :func:`find` find what another process gave."""
    _given.update(plugins)


def only_here(values: Any) -> list[str]:
    """Return the names in a scenario's plain values that were given, and so cannot be imported elsewhere."""
    if isinstance(values, str):
        return [values] if values.startswith(HERE) else []
    parts = (
        values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else ()
    )
    return [name for part in parts for name in only_here(part)]


def takes(*kinds: str) -> Callable[[F], F]:
    """Say which kinds of rows a model's function takes: what a table of whole numbers is follows from it."""

    def mark(function: F) -> F:
        function.takes = kinds  # type: ignore[attr-defined]
        return function

    return mark


def nearest(word: str, valid: Iterable[str]) -> list[str]:
    """Return up to two valid names that ``word`` may have been meant for, the nearest first."""
    by_lower = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(word.lower(), by_lower, n=2)
    longer = [name for name in by_lower if len(word) > 2 and name.startswith(word.lower())]
    return [by_lower[name] for name in dict.fromkeys([*near, *longer])][:2]


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """Return the end of an error's sentence: the nearest valid names, or all of them where none is near."""
    valid = sorted(valid)
    near = nearest(word, valid)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    if valid:
        return f"valid names are {', '.join(valid)}."
    return "none is registered here, which an installation of fedkt would change."


def _noun(group: str) -> str:
    """Return what one plug-in of a group is called; raise ValueError for an unknown group."""
    if group not in _SINGULAR:
        raise ValueError(f"unknown plug-in group {group!r}: it must be one of {', '.join(GROUPS)}")
    return _SINGULAR[group]


def _entry_points(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group by name; one seen twice with the same value counts once."""
    _noun(group)
    return _installed(group, tuple(sys.path))


@lru_cache(maxsize=64)
def _installed(group: str, path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """Return a group's on this search path, and keep them: a plug-in is looked for by every client."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in _all_installed(path).select(group=f"fedkt.{group}"):
        found.setdefault(point.name, {})[point.value] = point
    return {name: list(found[name].values()) for name in sorted(found)}


@lru_cache(maxsize=16)
def _all_installed(path: tuple[str, ...]) -> Any:
    """Return all groups' at once, and keep them: this opens the metadata of all that is installed."""
    return entry_points()


def see_working_folder() -> None:
    """Let ``package.module:name`` find modules in the folder where one works, whatever was started how.

    Last on the search path: a file that happens to be called as an installed package hides nothing.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _import(what: str, path: str) -> Any:
    """Import ``package.module:name``."""
    if not IMPORT_PATH.fullmatch(path):
        raise InputError(f"{what} is no valid name; it must be a registered name or 'package.module:name'.")
    module_name, _, attributes = path.partition(":")
    see_working_folder()
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        remedy = (
            "; is it installed, in this folder, or in one on PYTHONPATH?"
            if isinstance(error, ImportError)
            else "."
        )
        raise InputError(f"{what} cannot be imported: {_reason(error)}{remedy}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            public = [name for name in vars(found) if not name.startswith("_")]
            raise InputError(
                f"{what} does not exist: {module_name} has no {attribute!r}; "
                + did_you_mean(attribute, public)
            )
        found = getattr(found, attribute)
    return found


def _first_line(plugin: Any) -> str:
    """Return the first line of an object's own docstring, or nothing."""
    return (getattr(plugin, "__doc__", None) or "").strip().partition("\n")[0]


def _source_line(points: list[EntryPoint]) -> str | None:
    """Return the first line of a plug-in's docstring from its module's source, None if it is not there."""
    node = _node(points)
    return None if node is None else (ast.get_docstring(node) or "").partition("\n")[0]


def _node(points: list[EntryPoint]) -> ast.FunctionDef | ast.ClassDef | None:
    """Return the source of a plug-in, None if it is not there."""
    origin = _origin(points[0].module) if len(points) == 1 else None
    if origin is None or not origin.endswith(".py"):
        return None
    for node in ast.parse(Path(origin).read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == points[0].attr:
            return node
    return None


def _origin(module: str) -> str | None:
    """Return the file of a module; the packages around it are not imported, as ``find_spec`` would."""
    name, places, spec = "", None, None
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        found = (finder.find_spec(name, places) for finder in sys.meta_path)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return None if spec is None else spec.origin


def _reason(error: BaseException) -> str:
    """Return an exception in one line."""
    if isinstance(error, InputError):
        return str(error).rstrip(".")
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": .")
