"""The reference: whatever docs/reference.md shows says what it is, has an example, and every example runs."""

import ast
import doctest
import inspect
import re
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from pydantic import BaseModel

from tests.project.snippets import in_this_process

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="docs/ is not beside the tests")


def shown() -> dict[str, Any]:
    """Everything that has a heading on the page; of a module all that is public and its own."""
    found: dict[str, Any] = {}
    for name in re.findall(r"^::: (\S+)$", PAGE.read_text(), re.MULTILINE):
        thing = resolve_name(name)
        members = vars(thing).items() if inspect.ismodule(thing) else []
        found |= {
            f"{name}.{key}": value
            for key, value in members
            if not key.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == name
        } or {name: thing}
    return found


SHOWN = shown() if PAGE.exists() else {}


def examples(thing: Any, name: str, scene: dict[str, Any]) -> list[doctest.DocTest]:
    return doctest.DocTestFinder(exclude_empty=True).find(thing, name, module=False, globs=dict(scene))


@pytest.mark.parametrize("name", SHOWN)
def test_its_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with its module's names; what the module's own example makes is there as well."""
    monkeypatch.chdir(tmp_path)
    # A worker takes seconds to import what is imported here already.
    monkeypatch.setattr("fedkt.comparing.campaign.run_here", in_this_process)
    thing, told = SHOWN[name], list[str]()
    module = sys.modules[thing.__module__]
    found = examples(thing, name, vars(module))
    assert any(one.name == name and one.examples for one in found), f"{name} has no example"
    scene = doctest.DocTestParser().get_doctest(module.__doc__ or "", dict(vars(module)), name, None, 0)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(scene, out=told.append, clear_globs=False)
    for one in found:
        one.globs = dict(scene.globs)
        runner.run(one, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", [name for name, thing in SHOWN.items() if inspect.isclass(thing)])
def test_every_part_is_explained(name: str) -> None:
    """Methods, properties and settings of a class that is shown, as far as they are its own and public."""
    (tree,) = ast.parse(inspect.getsource(SHOWN[name])).body
    assert isinstance(tree, ast.ClassDef)
    methods = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name[0] != "_"]
    silent = [one.name for one in methods if not ast.get_docstring(one)]
    if issubclass(SHOWN[name], BaseModel):
        silent += [
            ast.unparse(one.target)
            for one, after in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True)
            if isinstance(one, ast.AnnAssign) and not isinstance(after, ast.Expr)
        ]
    assert not silent, f"{name} does not explain {', '.join(silent)}"
