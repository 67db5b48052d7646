"""The two ways in which fedkt ends early: the user's input is wrong, or the run failed."""

import errno
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class FedktError(Exception):
    """Base of every error that fedkt raises on purpose."""


class InputError(FedktError):
    """The user's input is wrong (command line: exit status 2).

    Each problem is one sentence that says what is wrong, where, and what would be right.
    All problems that were found are raised together.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


def tried(problems: list[str], step: Callable[[], T]) -> T | None:
    """Return what a step returns; where it raises InputError, None, and its problems are appended."""
    try:
        return step()
    except InputError as error:
        problems += error.problems
        return None


class Interrupted(FedktError):
    """The user asked the run to stop; what is on disk can be resumed (command line: exit status 130)."""


class RunError(FedktError):
    """The run failed for a reason that is not in the user's input (command line: exit status 3)."""


class Diverged(RunError):
    """A model or a teacher holds NaN or infinity: one sentence says whose, when, and which setting to change.

    ``what``: the first half; ``remedy``: the second, added by whoever knows the settings (:meth:`advised`);
    ``rate``: the learning rate that it trained with, None where it did not train. It quotes no values of a
    client, which may tell it to the server.
    """

    def __init__(self, what: str, remedy: str = "", rate: float | None = None) -> None:
        super().__init__(f"{what}; {remedy}." if remedy else f"{what}.")
        self.what, self.rate = what, rate

    def advised(self, remedy: str) -> "Diverged":
        """Return the same with a remedy."""
        return Diverged(self.what, remedy, self.rate)


ERROR_FILE = "error.txt"
"""The traceback of what ended a run, in the run's folder."""


def own_code(error: BaseException) -> str:
    """Say where in the user's own code an error was raised: ``model.py:12, in forward``; empty for nowhere.

    The innermost line of the traceback that is neither of fedkt nor of an installed package.
    """
    package = Path(__file__).parent
    others = [package, package.parent / "strategies", package.parent / "clients"]
    others += [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib", "platlib")]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        foreign = any(file.is_relative_to(other) for other in others) or "site-packages" in file.parts
        if not foreign and not frame.filename.startswith("<frozen"):
            return f"{file.name}:{frame.lineno}, in {frame.name}"
    return ""


_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def hinted(error: BaseException) -> InputError | RunError | None:
    """Return an error of the machine as one sentence with a remedy; None for any other error.

    >>> str(hinted(PermissionError(13, "Permission denied", "data/a.npz")))
    "data/a.npz may not be used by this user (Permission denied); ask its owner, or name another place."
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return RunError(
            "memory ran out; lower engine.workers, engine.cohort or clients.local.batch_size, and continue "
            "with --resume."
        )
    if not isinstance(error, OSError):
        return None
    what = error.filename or "a file"
    if error.errno in _DENIED:
        return InputError(
            f"{what} may not be used by this user ({error.strerror}); ask its owner, or name another place."
        )
    if error.errno == errno.EADDRINUSE:
        return InputError("a port is in use by another process; stop that one, or name another port.")
    if error.errno in _FULL:
        return RunError(
            f"{what} cannot be written ({error.strerror}); make room, and continue with --resume."
        )
    if error.errno == errno.EMFILE:
        return RunError("too many files are open; raise the limit with ulimit -n, or lower --jobs.")
    return None
