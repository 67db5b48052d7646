"""The snippets of a page, run as they stand."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_snippets(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, languages: tuple[str, ...]
) -> dict[str, int]:
    """Run Python and ``fedkt`` commands, in order and in one folder, and return how many blocks there were.

    Blocks named ``# file:`` are files in the folder. It is on the search path for Python, which puts it
    there, and not for commands, as for the script that is installed: they have to look there themselves.
    """
    from fedkt.cli.commands import app

    monkeypatch.chdir(folder)
    installed = [path for path in sys.path if path]
    # A worker takes seconds to import what is imported here already.
    monkeypatch.setattr("fedkt.comparing.campaign.run_here", in_this_process)
    session = {"__name__": "__main__"}  # one for a page, as in a notebook
    modules, ran = set(sys.modules), dict.fromkeys(languages, 0)
    for language, block in BLOCK.findall(page.read_text()):
        if language not in languages:
            continue
        ran[language] += 1
        monkeypatch.setattr(sys, "path", [*([str(folder)] if language == "python" else []), *installed])
        named = re.match(r"# file: (\S+)\n", block)
        if named:
            (folder / named[1]).write_text(block)
        elif language == "python":
            exec(compile(block, str(page), "exec"), session)
        elif language == "console":
            for line in block.splitlines():
                program, *arguments = shlex.split(line)
                if program == "make":
                    continue
                assert program == "fedkt", line
                ended = CliRunner().invoke(app, arguments)
                assert ended.exit_code == 0, f"{line}\n{ended.output}"
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    return ran


def in_this_process(jobs: list[Any], workers: int, gpus: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run a comparison's jobs here, as :func:`fedkt.comparing.pool.run_here` does in processes."""
    from fedkt.comparing.worker import run_job

    for number, job in enumerate(jobs):
        yield number, {"event": "started"}
        events: list[dict[str, Any]] = []
        run_job(job, events.append)
        yield from ((number, event) for event in events)
