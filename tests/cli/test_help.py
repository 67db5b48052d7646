"""What the command line says before it does anything: help, missing arguments, completion, lists."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from fedkt import registry
from fedkt.cli.commands import app
from fedkt.cli.runs import completion
from fedkt.scenario import setting_keys


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def _commands(command: Any, *above: str) -> Iterator[tuple[str, ...]]:
    yield above
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, *above, name)


EVERY = list(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_help_has_no_marks_of_a_renderer_and_tells_every_argument(command: tuple[str, ...]) -> None:
    ended = call(*command, "--help")
    assert ended.exit_code == 0
    assert "\\" not in ended.stdout and "\x1b" not in ended.stdout
    assert not re.search(r":[a-z_]+:", ended.stdout)
    assert ended.stdout.isascii() and "Positional arguments" not in ended.stdout
    if "Arguments:" in ended.stdout:
        told = ended.stdout.split("Arguments:\n")[1].split("\n\n")[0]
        assert re.match(r"  \S+ +[A-Za-z`][\w,]* ", told), "an argument without a word about it"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["list"], f"One of {', '.join(registry.GROUPS)} and scenarios."),
        (["simulate"], "A scenario file, or a bundled one of those that 'fedkt list scenarios' names."),
        (["completion"], "One of bash, zsh and fish."),
    ],
)
def test_a_missing_argument_is_told_with_what_it_may_be(command: list[str], words: str) -> None:
    ended = call(*command)
    assert ended.exit_code == 2 and words in ended.stderr and "Missing argument" in ended.stderr


def test_an_unknown_shell_is_refused() -> None:
    ended = call("completion", "powershell")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == (
        "fedkt: there is no completion for shell 'powershell'; valid names are bash, fish, zsh.\n"
    )


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_gets_its_script(shell: str) -> None:
    ended = call("completion", shell)
    assert ended.exit_code == 0 and f"{completion.VARIABLE}={shell}_complete" in ended.stdout


def answer(monkeypatch: pytest.MonkeyPatch, capsys: Any, *words: str) -> list[str]:
    """What the program answers a bash whose cursor is at the end of the last word."""
    monkeypatch.setenv(completion.VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(("fedkt", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        completion.answer(app)
    return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]


def test_words_are_completed(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").touch()
    Path("other.txt").touch()
    Path("queue").mkdir()
    assert answer(monkeypatch, capsys, "simulate", "qu") == [
        "quantity-skew",
        "quickstart",
        "queue/",
        "quick.yaml",
    ]
    assert answer(monkeypatch, capsys, "simulate", "a", "--strategy", "fedp") == [
        "fedpcl",
        "fedproto",
        "fedprox",
    ]
    assert answer(monkeypatch, capsys, "compare", "a", "--strategies", "knfu,fedm") == ["knfu,fedmd"]
    assert answer(monkeypatch, capsys, "show", "a", "--set", "clients.local.e") == ["clients.local.epochs="]
    assert answer(monkeypatch, capsys, "list", "lo") == ["losses"]
    assert answer(monkeypatch, capsys, "completion", "z") == ["zsh"]


def test_a_real_bash_takes_the_script() -> None:
    script = call("completion", "bash").stdout
    where = Path(sys.executable).parent
    asked = script + (
        "\nCOMP_WORDS=(fedkt list mod); COMP_CWORD=2; _fedkt_completion fedkt 2> /dev/null"
        '; echo "got ${COMPREPLY[*]}"'
    )
    environment = {**os.environ, "PATH": f"{where}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, env=environment)
    assert done.stdout == "got models\n", done.stderr


def test_setting_keys_are_those_of_the_schema() -> None:
    keys = setting_keys()
    assert len(keys) == len(set(keys)) > 80
    assert {"rounds", "data.partition.alpha", "clients.distill.together", "engine.kind"} <= set(keys)
    assert "data.partition" not in keys


def test_lists_are_read_without_importing_what_they_name() -> None:
    code = (
        "import sys; from fedkt.cli.listing import show_names\n"
        "for name in ('strategies', 'losses', 'datasets', 'models', 'clients'): show_names(name)\n"
        "print([name for name in ('torch', 'flwr', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
    assert "\nknfu             Give each client the knowledge of its semantic neighbours.\n" in done.stdout


@pytest.mark.parametrize("group", registry.GROUPS)
def test_what_a_list_says_is_what_importing_says(group: str) -> None:
    for name, line in registry.describe(group):
        assert line and line == (registry.find(group, name).__doc__ or "").strip().partition("\n")[0]


def test_showing_digits_leaves_alone_what_takes_long_to_import(tmp_path: Path) -> None:
    slow = ("sklearn", "scipy", "pandas", "matplotlib", "datasets", "flwr_datasets", "opacus", "ray")
    code = (
        "import sys, fedkt.cli.commands as c\n"
        "sys.argv = ['fedkt', 'show', 'quickstart']\n"
        "try: c.app()\n"
        f"finally: print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.endswith("\n[]\n")


def test_commands_of_another_click_are_still_plain() -> None:
    """Help that click keeps is not told twice."""
    ended = call("list", "--help")
    assert ended.stdout.count("One of strategies") == 1
    assert issubclass(type(typer.main.get_command(app)), click.Group)
