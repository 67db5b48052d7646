"""Teachers of all rounds, kept beside a run (``checkpoint.teachers``), so that a client can repeat its
own."""

from pathlib import Path

from torch import Tensor

from fedkt.files import read_tensors, write_tensors
from fedkt.strategy.rounds.teachers import Teachers

FOLDER = "teachers"


def record(run: Path, round_: int, teachers: Teachers) -> None:
    """Write the newest teachers of a run as those of a round."""
    tensors, note = teachers.state()
    (run / FOLDER).mkdir(exist_ok=True)
    write_tensors(run / FOLDER / f"round-{round_:06d}.safetensors", tensors, note)


def recorded(run: Path) -> dict[int, Teachers]:
    """Return the recorded teachers by round, in order; of rounds that made none there are none."""
    found = {}
    for file in sorted((run / FOLDER).glob("round-[0-9]*.safetensors")):
        tensors, note = read_tensors(file)
        parts: dict[str, dict[str, Tensor]] = {"common": {}, "personal": {}}
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = tensor
        teachers = Teachers()
        teachers.load(parts["common"], parts["personal"], note)
        found[int(file.stem.removeprefix("round-"))] = teachers
    return found
