"""Take one client's model out of a run, and read it again."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fedkt.client.state import DiskStore
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.files import read_tensors, write_json, write_tensors
from fedkt.models import Net, build
from fedkt.results.folder import read_rows
from fedkt.results.result import Result

MOST_NAMES = 20


def export(run: Path, client: str, out: Path) -> Path:
    """Write a client's model after the last finished round as ``model.safetensors`` and ``model.json``.

    Where the client adds a ``prior`` to its model's scores for rows that are dealt as its own are, this is in
    ``model.json``, one number per class; not after a private run, whose budget has not paid for it.

    Returns ``out``. Raises InputError where there is no such run or client, or ``out`` is not empty.
    """
    folder = Result.read(run).path
    rounds = read_rows(folder / "rounds.jsonl")
    store = DiskStore(folder / "checkpoint" / "clients")
    last = rounds[-1]["round"] if rounds else 0
    # Versions above are leftovers of a round that was interrupted.
    state = store.load(client, below=2 * last + 2) if client in set(store.clients()) else None
    if state is None:
        held = sorted(store.clients(), key=lambda name: (len(name), name))
        more = f" and {len(held) - MOST_NAMES} more" if len(held) > MOST_NAMES else ""
        known = (
            f"its clients are {', '.join(held[:MOST_NAMES])}{more}"
            if rounds
            else "no round of it has ended yet"
        )
        raise InputError(f"{folder} has no model of client '{client}'; {known}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already and is not empty; name another folder with --out.")
    tensors = {k.removeprefix("model/"): t for k, t in state.tensors.items() if k.startswith("model/")}
    about = json.loads((folder / "model-input.json").read_text(encoding="utf-8"))
    name, settings = state.note["model"]
    description = {
        "model": name,
        "settings": settings,
        "input": {key: about[key] for key in ("kind", "shape", "vocabulary")},
        "classes": about["classes"],
        "fedkt": version("fedkt"),
        "run": json.loads((folder / "environment.json").read_text(encoding="utf-8"))["run"],
        "client": client,
        "round": last,
    }
    if "prior" in state.note:
        description["prior"] = state.note["prior"]
    net = _net(description)
    tensors = {name: tensors[name] for name in net.state_dict()}  # without what a behaviour attached
    net.load_state_dict(tensors)  # so what is written can be read again
    try:
        write_tensors(out / "model.safetensors", tensors, description)
        write_json(out / "model.json", {**description, "width": net.width})
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror}); name another folder with --out."
        ) from error
    return out


def load_model(path: str | Path) -> Net:
    """Read the model that ``fedkt export`` wrote.

    A model of ``package.module:name`` is imported from there, so load only what you trust.

    Args:
        path: the folder with ``model.safetensors`` and ``model.json``.

    Returns:
        A model in evaluation mode: ``model(x) -> (features [n, width], logits [n, classes])``.

    Raises:
        InputError: the folder holds no exported model, or its weights do not fit.

    >>> import fedkt, torch
    >>> from fedkt.results.export import export
    >>> run = fedkt.simulate("quickstart", ["engine.kind=inline", "rounds=1"])
    >>> model = fedkt.load_model(export(run.path, "3", Path("model-3")))
    >>> features, logits = model(torch.zeros(2, 1, 8, 8))
    >>> tuple(features.shape), tuple(logits.shape)
    ((2, 64), (2, 10))
    """
    folder = Path(path)
    if not (folder / "model.json").is_file() or not (folder / "model.safetensors").is_file():
        raise InputError(
            f"{folder} holds no exported model; 'fedkt export' writes model.json and model.safetensors."
        )
    try:
        net = _net(json.loads((folder / "model.json").read_text(encoding="utf-8")))
        tensors, _ = read_tensors(folder / "model.safetensors")
        net.load_state_dict(tensors)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"the model in {folder} cannot be read ({reason}); export it again.") from error
    return net.eval()


def _net(description: dict[str, Any]) -> Net:
    about = description["input"]
    shape = InputSpec(about["kind"], tuple(about["shape"]), about["vocabulary"])
    return build((description["model"], description["settings"]), shape, description["classes"], seed=0)
