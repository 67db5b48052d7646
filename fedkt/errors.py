"""The two ways in which fedkt ends early: the user's input is wrong, or the run failed."""


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
