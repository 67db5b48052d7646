"""The best round by validation rows: which it is, when to stop looking, and its models."""

import os
import shutil
from pathlib import Path
from typing import Any

from fedkt.client.state import DiskStore
from fedkt.tasks import CLASSIFICATION, Figure

Best = dict[str, Any]
"""``{"round": n, "validation": mean over clients}``."""
BEST, STAYS = "best", "kept"
KEPT = 2
"""A resume from the checkpoint before the newest may need the best round that was known then."""


def better(
    best: Best | None, round_: int, validation: float | None, figure: Figure = CLASSIFICATION.metric
) -> Best | None:
    """Return what is best after a round; of equal rounds the first, None where nothing was measured."""
    if validation is None or (best is not None and figure.gain(validation, best["validation"]) <= 0):
        return best
    return {"round": round_, "validation": validation}


def exhausted(best: Best | None, round_: int, patience: int | None, every: int = 1) -> bool:
    """Say whether so many measured rounds have not been better that the run ends; ``every``: which are."""
    return patience is not None and best is not None and round_ // every - best["round"] // every >= patience


def folder_of(checkpoint: Path, round_: int, why: str = BEST) -> Path:
    """Return where a round's states lie that were kept, as a :class:`~fedkt.client.state.DiskStore` has them.

    ``why``: since it was the ``best``, or every so many rounds are ``kept``.
    """
    return checkpoint / why / f"{round_:06d}"


def keep(checkpoint: Path, round_: int, why: str = BEST) -> None:
    """Keep all clients' states after a round, where they lie on this machine, beside those that go on.

    A file is never written again, only replaced, so a second name of it costs no room until then.
    """
    states, to = DiskStore(checkpoint / "clients"), folder_of(checkpoint, round_, why)
    shutil.rmtree(to, ignore_errors=True)
    for client in states.clients():
        file = states.newest(client, 2 * round_ + 2)
        if file is not None:
            (to / client).mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, to / client / file.name)
            except OSError:  # a file system without links
                shutil.copy2(file, to / client / file.name)
    for old in sorted(to.parent.glob("[0-9]*"))[:-KEPT] if why == BEST else ():
        shutil.rmtree(old)
