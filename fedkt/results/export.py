"""Take one client's model out of a run, and read it again."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fedkt import registry
from fedkt.client.state import ALONE, ClientState, DiskStore
from fedkt.data.raw import Preparation, prepared, spec_of
from fedkt.data.sets.common_rows import CommonRows
from fedkt.data.sets.preprocess import Statistics
from fedkt.distill.prototype import nearest
from fedkt.errors import InputError
from fedkt.files import read_tensors, write_json, write_tensors
from fedkt.models import Net, build
from fedkt.results.folder import read_rows
from fedkt.results.result import Result
from fedkt.scenario import load
from fedkt.strategy.own_settings import behaviour_of
from fedkt.tasks import CLASSIFICATION, Task, named

MOST_NAMES = 20
_PROTOTYPES = "prototypes"
_KNOWN = "prototypes_known"


class ExportedModel(Net):
    """A client's model that takes rows as they are: ``model(rows) -> (features, scores)``.

    ``rows``: see :class:`~fedkt.data.raw.Preparation`, which :attr:`prepare` is; they become what the client
    measured its accuracy on. ``scores`` [n, classes]: the largest is the prediction (of several
    labels logits: those above 0 are there; of numbers the predictions, in the targets' units); ``labels``:
    what the classes are called, None where they are numbers; ``task``: what is predicted. ``features`` and
    ``head`` take rows that are prepared.
    """

    def __init__(
        self,
        net: Net,
        prepare: Preparation,
        labels: list[str] | None = None,
        prototypes: tuple[Tensor, Tensor] | None = None,
        task: Task = CLASSIFICATION,
    ) -> None:
        super().__init__(net.features, net.head, net.width)
        if net.closed is not None:
            self.close(net.closed)
        self.prepare = prepare
        self.labels = labels
        self.task = task
        self.prototypes = prototypes
        """Those [classes, width] whose nearest decides, and which are known; None: the head decides."""

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        features, scores = super().forward(self.prepare(x).to(device))
        if self.prototypes is not None:
            scores = nearest(features, *(part.to(device) for part in self.prototypes))
        return features, self.task.in_units(scores)


def export(
    run: Path,
    client: str,
    out: Path,
    round_: str = "last",
    *,
    shared: bool = False,
    data_dir: Path | None = None,
) -> Path:
    """Write a client's model after a round as ``model.safetensors`` and ``model.json``.

    ``round_``: ``last``, the last finished one, ``best``, by mean accuracy on validation rows, or the number
    of one that ``checkpoint.keep`` kept.

    With all that it needs to be used on raw rows, so no data are read. Equal models make an equal
    ``model.safetensors``; where they come from stands in ``model.json``.
    Where the client adds a ``prior`` to its model's scores for rows that are dealt as its own are, this is in
    ``model.json``, one number per class; not after a private run, whose budget has not paid for it.

    Where the client judges teachers by folds (``clients.guard.folds``) and does not find them better, its own
    predictions are those of its copy that trains alone, and so it is that which is written, without a prior;
    ``model.json`` then says ``alone``. ``shared``: the model that learned from the others all the same.
    ``data_dir``: where the folder of a pretrained model may lie too.

    Returns ``out``. Raises InputError where there is no such run or client, ``out`` is not empty, or
    ``shared`` is asked for where there is no copy.
    """
    folder = Result.read(run).path
    state, last = state_of(folder, client, round_)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already and is not empty; name another folder with --out.")
    if shared and "better" not in state.note:
        raise InputError(
            f"--shared tells a model from a copy that trains alone, but {folder} has none "
            "(clients.guard.folds); leave it out."
        )
    alone = not (shared or state.note.get("better", True))
    statistics = state.part("statistics")
    try:
        scales = Statistics.read(statistics) if statistics else None
        prepared(_input(folder), scales)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{folder} does not hold what the model needs to be used (an older fedkt made it); run it again."
        ) from error
    model = described(folder, state)
    part = ALONE if alone else "model"
    net = net_of(model, state, data_dir, part)
    tensors = {name: state.part(part)[name] for name in net.state_dict()}
    tensors |= {} if alone else _prototypes(folder, state)
    told = {
        **model,
        "statistics": None if scales is None else scales.plain(),
        "width": net.width,
        **({"alone": True} if alone else {key: state.note[key] for key in ("prior",) if key in state.note}),
        "fedkt": version("fedkt"),
        "run": json.loads((folder / "environment.json").read_text(encoding="utf-8"))["run"],
        "client": client,
        "round": last,
    }
    try:
        write_tensors(out / "model.safetensors", tensors, model)
        write_json(out / "model.json", told)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror}); name another folder with --out."
        ) from error
    return out


def state_of(folder: Path, client: str, round_: str = "last") -> tuple[ClientState, int]:
    """Return a client's state after a round of a run (as :func:`export` names it), and which round that is.

    Raises InputError where there is no such client or round.
    """
    rounds = read_rows(folder / "rounds.jsonl")
    store = DiskStore(folder / "checkpoint" / "clients")
    last = rounds[-1].get("visits", rounds[-1]["round"]) if rounds else 0
    if round_ == "best":
        store, last = _best(folder)
    elif round_ != "last":
        store, last = _kept(folder, round_)
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
    return state, last


def described(folder: Path, state: ClientState) -> dict[str, Any]:
    """Return what a client's model is built of, from a run and the client's state."""
    name, settings = state.note["model"]
    return {"model": name, "settings": settings, **_input(folder)}


def net_of(
    model: dict[str, Any], state: ClientState, data_dir: Path | None = None, part: str = "model"
) -> Net:
    """Return a client's model, or its copy, as its state has it, without what a behaviour attached."""
    net, tensors = blank(model, data_dir=data_dir), state.part(part)
    if "closed" in tensors:
        net.close(tensors["closed"])
    net.load_state_dict({name: tensors[name] for name in net.state_dict()})
    return net


def blank(about: dict[str, Any], seed: int = 0, data_dir: Path | None = None) -> Net:
    """Return a client's model as it is built, of what is described, with weights of a seed.

    ``data_dir``: where files that it names may lie too.
    """
    # What was learned from common rows comes with the model.
    input_ = replace(spec_of(about), common=CommonRows(None), data_dir=data_dir)
    return build((about["model"], about["settings"]), input_, about["classes"], seed)


def _input(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "model-input.json").read_text(encoding="utf-8")))


def _best(run: Path) -> tuple[DiskStore, int]:
    """Return the states of a run's best round, and which it is. Raises InputError where none was kept."""
    kept = sorted((run / "checkpoint" / "best").glob("[0-9]*"))
    if not kept:
        raise InputError(
            f"{run} kept no best round, since no validation rows were set aside to judge by; run it with "
            "data.validation, such as 0.2, or export the last round."
        )
    return DiskStore(kept[-1]), int(kept[-1].name)


def _kept(run: Path, round_: str) -> tuple[DiskStore, int]:
    """Return the states of a round that was kept, and which it is. Raises InputError where it was not."""
    rows = {row["round"]: row for row in read_rows(run / "rounds.jsonl")}
    versions = {row.get("visits", number): number for number, row in rows.items()}
    there = {int(folder.name): folder for folder in (run / "checkpoint" / "kept").glob("[0-9]*")}
    kept = {str(versions[at]): (folder, at) for at, folder in sorted(there.items()) if at in versions}
    if round_ not in kept:
        what = f"last, best or one of {', '.join(kept)}" if kept else "last or best"
        remedy = "" if kept else "; checkpoint.keep, such as 20, keeps every so many rounds"
        raise InputError(f"--round is {round_!r}; it must be {what}{remedy}.")
    folder, at = kept[round_]
    return DiskStore(folder), at


def load_model(path: str | Path, data_dir: str | Path | None = None) -> ExportedModel:
    """Read the model that ``fedkt export`` wrote.

    A model of ``package.module:name`` is imported from there, so load only what you trust.

    Args:
        path: the folder with ``model.safetensors`` and ``model.json``.
        data_dir: where the folder of a pretrained model (``hf-lm``) may lie too, of which what is trained
            alone was exported; None: ``$FEDKT_DATA``, else ``./data``.

    Returns:
        A model in evaluation mode: ``model(rows) -> (features [n, width], scores [n, classes])``. ``rows``
        are raw, as the client's data set has them; the largest score is the prediction.

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
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        net = blank(about, data_dir=None if data_dir is None else Path(data_dir))
        tensors, _ = read_tensors(folder / "model.safetensors")
        values, known = tensors.pop(_PROTOTYPES, None), tensors.pop(_KNOWN, None)
        if "closed" in tensors:
            net.close(tensors["closed"])
        net.load_state_dict(tensors)
        statistics = None if about["statistics"] is None else Statistics.read(about["statistics"])
        prepare, labels = prepared(about, statistics), about["labels"]
        ranges = tuple((low, high) for low, high in about.get("targets") or ())
        task = named(about.get("task", "classification"), ranges)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"the model in {folder} cannot be read ({reason}); export it again.") from error
    prototypes = None if values is None or known is None else (values, known)
    model = ExportedModel(net, prepare, labels, prototypes, task)
    model.eval()
    return model


def _prototypes(folder: Path, state: ClientState) -> dict[str, Tensor]:
    """Return the prototypes that decide in place of the logits, where the client's method predicts so."""
    teacher = state.part("teacher")
    if not teacher:
        return {}
    scenario = load(folder / "scenario.yaml")
    strategy = registry.find("strategies", scenario.strategy.name)
    found = behaviour_of(strategy, scenario.data).prototypes(teacher)
    return {} if found is None else {_PROTOTYPES: found[0].contiguous(), _KNOWN: found[1].contiguous()}
