"""``fedkt completion``: the script with which a shell asks how a word goes on, and the answers."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from fedkt.errors import InputError

VARIABLE = "_FEDKT_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
_NO_SPACE = "COMPREPLY+=($value); [[ $value == *= ]] && compopt -o nospace"


def completion(
    shell: Annotated[
        str, typer.Argument(help="One of bash, zsh and fish.", autocompletion=lambda: [*SHELLS])
    ],
) -> None:
    """Print a shell's completion script."""
    if shell not in SHELLS:
        from fedkt.registry import did_you_mean

        raise InputError(f"there is no completion for shell {shell!r}; {did_you_mean(shell, SHELLS)}")
    import click
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    script = made(click.Command("fedkt"), {}, "fedkt", VARIABLE).source()
    # After a setting's key comes its value, not the next word.
    typer.echo(script.replace("COMPREPLY+=($value)", _NO_SPACE))


def answer(app: typer.Typer) -> None:
    """End the program with the answer where a shell asks for one."""
    if VARIABLE in os.environ:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(typer.main.get_command(app), {}, "fedkt", VARIABLE, os.environ[VARIABLE]))


def scenarios(incomplete: str) -> list[str]:
    """Return bundled scenarios, and files and folders here that go on like this."""
    from fedkt.scenario import bundled

    return [*_beginning(incomplete, bundled()), *_files(incomplete)]


def strategies(incomplete: str) -> list[str]:
    """Return the names that the last one of several by comma may become, with those before it."""
    from fedkt.registry import names

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, names("strategies"))]


def settings(incomplete: str) -> list[str]:
    """Return the dotted keys of a scenario that go on like this, each with ``=``."""
    from fedkt.scenario import setting_keys

    return [f"{key}=" for key in _beginning(incomplete, setting_keys())]


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _files(incomplete: str) -> list[str]:
    folder, _, _ = incomplete.rpartition("/")
    try:
        found = sorted(Path(folder or (incomplete[:1] if incomplete.startswith("/") else ".")).iterdir())
    except OSError:
        return []
    names = [f"{path}/" if path.is_dir() else str(path) for path in found]
    return _beginning(incomplete, [name for name in names if name.endswith(("/", ".yaml", ".yml"))])
