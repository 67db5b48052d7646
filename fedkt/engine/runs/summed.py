"""What clients kept of themselves after the last round, summed up for whoever reads the run's folder."""

import json
from typing import Any

import numpy as np

from fedkt.client.state import CONFUSION, DOMAINS
from fedkt.engine.world.world import World
from fedkt.files import write_json
from fedkt.results.folder import RunFolder


def sum_up_clients(world: World, folder: RunFolder, last: int) -> None:
    """Write what honest clients kept who were measured after the last round.

    ``confusion.json``: the sum of theirs; ``domains.json``: the leading figure of each one's model on the
    test rows of each domain.
    """
    found = _kept(world, folder, CONFUSION, last)
    if found and len({held["rows"] for held in found.values()}) == 1:
        counts = np.sum([held["counts"] for held in found.values()], axis=0)
        first = next(iter(found.values()))
        write_json(folder.path / CONFUSION, {**first, "clients": len(found), "counts": counts.tolist()})
    figures = {client: held["figures"] for client, held in _kept(world, folder, DOMAINS, last).items()}
    if figures:
        write_json(folder.path / DOMAINS, {"round": last, "clients": figures})


def _kept(world: World, folder: RunFolder, name: str, last: int) -> dict[str, dict[str, Any]]:
    """Return what honest clients kept under a name, of those who were measured after the last round."""
    files = {c: folder.checkpoint / "clients" / c / name for c in world.names if c not in world.hostile}
    held = {c: json.loads(file.read_text(encoding="utf-8")) for c, file in files.items() if file.is_file()}
    return {client: one for client, one in held.items() if one["round"] == last}
