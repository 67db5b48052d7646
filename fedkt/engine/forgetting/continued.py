"""A run that goes on where another one ended, with other settings or another model of a client."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedkt.client.state import ClientState, DiskStore
from fedkt.engine.loop import checkpoint
from fedkt.errors import InputError
from fedkt.results.folder import LINES, RunFolder
from fedkt.scenario import Scenario

COPIED = (*LINES, "model-input.json", "federation.json")


@dataclass(frozen=True)
class Made:
    """A client's model that was made anew, as its state, and what was measured of it."""

    state: ClientState
    metrics: Mapping[str, float] = field(default_factory=dict)


def go_on(
    run: Path,
    folder: Path,
    scenario: Scenario,
    hashes: Mapping[str, str],
    made: Mapping[str, Made] | None = None,
) -> int:
    """Write a folder that a run can be resumed in after the last round of another; return that round.

    ``hashes``: of the data; ``made``: models that take the place of clients' own. Raises InputError where the
    run has no checkpoint.
    """
    saved = checkpoint.read(run / "checkpoint")
    if not saved.round:
        raise InputError(f"{run} has no checkpoint that a run could go on from; let it end a round first.")
    anew = made or {}
    new = RunFolder.create(folder, scenario, resume=False, data=hashes)
    try:
        for name in (name for name in COPIED if (run / name).is_file()):
            shutil.copy2(run / name, folder / name)
        loop = dict(saved.loop)
        loop["metrics"] = {**loop["metrics"], **{c: dict(m.metrics) for c, m in anew.items() if m.metrics}}
        # Not its last round any more, which a longer run would run again: models were replaced after it.
        content = checkpoint.as_bytes(replace(saved, loop=loop, last=False))
        (folder / "checkpoint").mkdir()
        checkpoint.write(folder / "checkpoint", saved.round, content)
        source, target = (DiskStore(path / "checkpoint" / "clients") for path in (run, folder))
        version = 2 * saved.round + 1
        for client in source.clients():
            if client in anew:
                target.save(client, version, anew[client].state, 0)
            else:
                source.copy(client, version + 1, target)
    finally:
        new.close()
    return saved.round
