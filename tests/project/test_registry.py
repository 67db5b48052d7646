"""Plug-ins are found by name, and a broken one says what is wrong and hides no other."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from fedkt import registry
from fedkt.errors import InputError


def good() -> None:
    """Do nothing.

    More text.
    """


class Bare:
    pass


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Entry points (name, value) of every group, instead of those that are installed."""
    installed: list[tuple[str, str]] = []
    monkeypatch.setattr(registry, "_installed", registry._installed.__wrapped__)
    monkeypatch.setattr(
        registry,
        "_all_installed",
        lambda path: EntryPoints(
            EntryPoint(*point, f"fedkt.{g}") for point in installed for g in registry.GROUPS
        ),
    )
    return installed


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module outside the project; plug_broken and plug_exit beside it cannot be imported."""
    (tmp_path / "plug_in.py").write_text(
        'class Mine:\n    """My own."""\n    def run(self): ...\n\ndef fuse(): ...\n'
    )
    (tmp_path / "plug_broken.py").write_text("1 / 0\n")
    (tmp_path / "plug_exit.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "plug_in"
    for name in ("plug_in", "plug_broken", "plug_exit"):
        sys.modules.pop(name, None)


def problem(group: str, name: str) -> str:
    with pytest.raises(InputError) as caught:
        registry.find(group, name)
    (sentence,) = caught.value.problems
    return sentence


def test_an_entry_point_is_found_by_its_name(points, module):
    points += [("mine", "plug_in:Mine"), ("other", "plug_in:fuse")]
    assert registry.find("strategies", "mine").__doc__ == "My own."
    assert registry.names("strategies") == ["mine", "other"]


def test_an_import_path_is_found_without_an_entry_point(points, module):
    assert registry.find("strategies", "plug_in:fuse").__name__ == "fuse"
    assert registry.find("strategies", "plug_in:Mine.run").__qualname__ == "Mine.run"


@pytest.mark.parametrize("plugin", [good, Bare, Bare(), 3], ids=["function", "class", "instance", "number"])
def test_an_object_is_returned_unchanged(plugin):
    assert registry.find("models", plugin) is plugin


def test_an_unknown_name_is_answered_with_the_nearest(points):
    points += [("knfu", "a:b"), ("fedmd", "a:b"), ("fedproto", "a:b")]
    assert problem("strategies", "KNFU2") == "there is no strategy 'KNFU2'; did you mean 'knfu'?"
    assert problem("strategies", "fedprot") == "there is no strategy 'fedprot'; did you mean 'fedproto'?"
    assert problem("losses", "zzz") == "there is no loss 'zzz'; valid names are fedmd, fedproto, knfu."


def test_without_any_plug_in_the_error_speaks_of_the_installation(points):
    assert "installation of fedkt" in problem("datasets", "digits")


def test_one_entry_point_seen_twice_counts_once_and_two_of_one_name_are_refused(points, module):
    points += [("mine", "plug_in:Mine"), ("mine", "plug_in:Mine")]
    assert registry.find("clients", "mine").__name__ == "Mine"
    points.append(("mine", "plug_in:fuse"))
    assert problem("clients", "mine") == (
        "client behaviour 'mine' is registered more than once, as plug_in:Mine and as plug_in:fuse; "
        "uninstall one, or write the full 'package.module:name' instead."
    )


def test_what_cannot_be_imported_says_why(points, module):
    points.append(("broken", "plug_broken:x"))
    assert problem("losses", "broken") == (
        "loss 'broken' (plug_broken:x) cannot be imported: ZeroDivisionError: division by zero."
    )
    assert problem("losses", "plug_broken:x") == (
        "loss 'plug_broken:x' cannot be imported: ZeroDivisionError: division by zero."
    )
    assert problem("models", "plug_absent:x") == (
        "model 'plug_absent:x' cannot be imported: ModuleNotFoundError: No module named 'plug_absent'; "
        "is it installed, in this folder, or in one on PYTHONPATH?"
    )
    assert problem("models", "plug_in:Min") == (
        "model 'plug_in:Min' does not exist: plug_in has no 'Min'; did you mean 'Mine'?"
    )


@pytest.mark.parametrize("name", ["a:", ":b", "a b:c", "a:b:c", "a..b:c", "1:2"])
def test_what_looks_like_no_import_path_is_refused(name):
    assert "is no valid name; it must be a registered name or 'package.module:name'" in problem(
        "models", name
    )


def test_describe_lists_a_broken_plug_in_beside_the_others(points, module):
    here = __name__
    points += [("d", "plug_exit:x"), ("c", "plug_broken:x"), ("a", f"{here}:good"), ("b", f"{here}:Bare")]
    assert registry.describe("datasets") == [
        ("a", "Do nothing."),
        ("b", ""),
        ("c", "dataset 'c' (plug_broken:x) cannot be imported: ZeroDivisionError: division by zero"),
        ("d", "SystemExit: 3"),
    ]


def test_an_unknown_group_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="strategies, clients, models, datasets, losses, generators"):
        registry.names("strategy")
    with pytest.raises(ValueError, match="unknown plug-in group"):
        registry.find("strategy", "knfu")


def test_the_import_path_of_an_object_finds_it_again():
    assert registry.path_of(good) == f"{__name__}:good"
    assert registry.find("models", registry.path_of(Bare)) is Bare


def test_objects_that_no_other_process_can_import_have_no_path(monkeypatch):
    monkeypatch.setattr(Bare, "__module__", "__main__")
    for plugin in (lambda: None, Bare, Bare(), 3):
        with pytest.raises(InputError, match="cannot be imported by other processes"):
            registry.path_of(plugin)
