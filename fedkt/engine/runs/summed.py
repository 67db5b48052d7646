"""What clients kept of themselves after the last round, summed up for whoever reads the run's folder."""

import json
from typing import Any

import numpy as np

from fedkt.client.state import CONFUSION, DOMAINS
from fedkt.data.columns.tokens import text_of
from fedkt.engine.runs.generation import generated
from fedkt.engine.world.world import World
from fedkt.files import write_json
from fedkt.results.folder import EXAMPLES, RunFolder

PROMPT, WRITTEN = 40, 160
"""Bytes of a public passage that examples begin with, at most, and bytes that are written then."""
MOST_EXAMPLES = 8
"""Clients that write one."""


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


def write_examples(world: World, folder: RunFolder) -> None:
    """Write ``examples.json``: how clients' language models go on with the beginning of a public passage.

    Not of a private run, whose budget has not paid for what its models say.
    """
    public = world.federation.transfer
    if not world.federation.task.writes or public is None or world.mode is not None:
        return
    prompt = beginning(text_of(public.x[0]))
    texts, data_dir = {}, world.federation.input.data_dir
    for client in world.names[:MOST_EXAMPLES]:
        (example,) = generated(
            [folder.path], client, prompt, length=WRITTEN, temperature=0.7, began=False, data_dir=data_dir
        )
        texts[client] = example.text
    write_json(folder.path / EXAMPLES, {"prompt": prompt, "texts": texts})


def beginning(text: bytes) -> str:
    """Return the first words of a text.

    >>> beginning(b"It was the best of times, it was the worst of times, it was")
    'It was the best of times, it was the'
    """
    held = text[:PROMPT].decode(errors="ignore")
    return held if len(text) <= PROMPT or " " not in held else held[: held.rindex(" ")]


def _kept(world: World, folder: RunFolder, name: str, last: int) -> dict[str, dict[str, Any]]:
    """Return what honest clients kept under a name, of those who were measured after the last round."""
    files = {c: folder.checkpoint / "clients" / c / name for c in world.names if c not in world.hostile}
    held = {c: json.loads(file.read_text(encoding="utf-8")) for c, file in files.items() if file.is_file()}
    return {client: one for client, one in held.items() if one["round"] == last}
