"""Errors that are the machine's end in one sentence with a remedy, without a traceback."""

import errno
import os
from typing import Any

import pytest
from typer.testing import CliRunner

from fedkt.cli.commands import app

CASES: dict[str, tuple[BaseException, int, str]] = {
    "permission": (
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), "data/a.npz"),
        2,
        "data/a.npz may not be used by this user (Permission denied); ask its owner, or name another place.",
    ),
    "port": (
        OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)),
        2,
        "a port is in use by another process; stop that one, or name another port.",
    ),
    "space": (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a"),
        3,
        "runs/a cannot be written (No space left on device); make room, and continue with --resume.",
    ),
    "files": (
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        3,
        "too many files are open; raise the limit with ulimit -n, or lower --jobs.",
    ),
    "memory": (
        MemoryError(),
        3,
        "memory ran out; lower engine.workers, engine.cohort or clients.local.batch_size, and continue with "
        "--resume.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_of_the_machine_is_one_sentence(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, status, sentence = CASES[case]

    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("fedkt.results.report.report_of", broken)
    monkeypatch.delenv("FEDKT_DEBUG", raising=False)
    ended = CliRunner().invoke(app, ["report", "."])
    assert (ended.exit_code, ended.stderr) == (status, f"fedkt: {sentence}\n")


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("fedkt.results.report.report_of", broken)
    monkeypatch.setenv("FEDKT_DEBUG", "1")
    ended = CliRunner().invoke(app, ["report", "."])
    assert ended.exit_code == 3 and "MemoryError" in ended.stderr
