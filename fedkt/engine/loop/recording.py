"""What the teachers of all rounds were made of, kept beside a run (``checkpoint.teachers``), so that a client
can repeat its own run among what the others said then."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedkt.files import read_tensors, write_tensors
from fedkt.knowledge.protocol import Reply

FOLDER = "contributions"
ROWS = "rows"


@dataclass(frozen=True)
class Recorded:
    """The contributions of a round that made a teacher.

    ``by_client``: their arrays by name; ``rows`` int32 [rows]: the transfer rows that they speak about, None
    for all.
    """

    by_client: Mapping[str, Mapping[str, NDArray[Any]]]
    rows: NDArray[np.int32] | None = None


def record(run: Path, round_: int, accepted: Mapping[str, Reply], rows: NDArray[np.int32] | None) -> None:
    """Write what was accepted in a round."""
    tensors = {
        f"{client}/{name}": torch.from_numpy(np.array(array))
        for client, reply in accepted.items()
        for name, array in (reply.arrays or {}).items()
    }
    if rows is not None:
        tensors[ROWS] = torch.from_numpy(rows)
    (run / FOLDER).mkdir(exist_ok=True)
    write_tensors(run / FOLDER / f"round-{round_:06d}.safetensors", tensors, {"clients": list(accepted)})


def recorded(run: Path) -> dict[int, Recorded]:
    """Return what was recorded, by round, in order; of rounds that made no teacher there is nothing."""
    found = {}
    for file in sorted((run / FOLDER).glob("round-[0-9]*.safetensors")):
        tensors, note = read_tensors(file)
        by_client: dict[str, dict[str, NDArray[Any]]] = {client: {} for client in note["clients"]}
        rows = tensors.pop(ROWS, None)
        for key, tensor in tensors.items():
            client, name = key.rsplit("/", 1)
            by_client[client][name] = tensor.numpy()
        number = int(file.stem.removeprefix("round-"))
        found[number] = Recorded(by_client, None if rows is None else rows.numpy())
    return found
