"""Dealing rows to clients, on the partitioners of flwr-datasets where it has them or with the same draws.

=============== ================================================================================
iid             equal parts, or sizes that grow with the client's number (``sizes``)
dirichlet       by class (Yurochkin et al. 2019, arXiv:1905.12022); with ``samples_per_client``
                each client's own class distribution is drawn ("inner Dirichlet", Acar et al. 2021)
pathological    ``classes_per_client`` classes each (Li et al. 2021, arXiv:2102.02079)
whole-classes   every class to one client, who has fewest rows when its turn comes
shard           ``shards_per_client`` blocks of the rows sorted by class (McMahan et al. 2017)
domain          one client per domain
natural-id      one client per natural id; with ``clients``, a seeded sample of them
ways-shots      about ``classes_per_client`` classes with about ``shots`` rows each (FedProto, Tan et
                al. 2022, arXiv:2105.00243, but no row goes to two clients)
=============== ================================================================================

``package.module:function`` is called as ``function(labels, spec, rng)`` and returns a list of index arrays.

Draws are repeated, with a stream of their own each, until every client has ``min_samples`` rows and every
class is held by some client.
"""

import contextlib
import importlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt import registry
from fedkt.data.columns.cells import blank
from fedkt.data.columns.dealing import by_class, by_client, lognormal, whole_classes
from fedkt.data.columns.labels import Labels
from fedkt.data.sets.dataset import Names
from fedkt.errors import InputError
from fedkt.rng import numpy_stream, seed_of

if TYPE_CHECKING:
    from fedkt.scenario import Partition

Indices = NDArray[np.int64]

DRAWS = 20
"""How often a random partition is drawn before it is given up."""

OWN_TEST = ("domain", "natural-id")
"""Kinds whose clients are tested on rows of their own domain or id."""

_DRAWN = ("iid", "dirichlet", "pathological", "shard", "ways-shots", "whole-classes")
_REMEDY = {
    "iid": "data.partition.clients must be smaller",
    "dirichlet": "data.partition.alpha must be larger, or clients, samples_per_client or min_samples smaller",
    "pathological": "data.partition.classes_per_client must be larger, or clients smaller",
    "shard": "data.partition.shards_per_client must be larger, or clients smaller",
    "whole-classes": "data.partition.clients or min_samples must be smaller",
    "ways-shots": "data.partition.shots, classes_per_client or clients must be smaller",
}


def partition(
    labels: Labels,
    domains: Names | None,
    ids: Names | None,
    spec: "Partition",
    seed: int,
    *,
    all_held: bool = True,
) -> list[Indices]:
    """Return each client's rows, as sorted positions in ``labels``; no row belongs to two clients.

    ``labels`` int64 [n] (any values: where ``all_held``, each that occurs must be held by some client);
    ``domains`` and ``ids``: a name per row, or None. With ``domain`` and ``natural-id`` clients come in the
    order of their names. Raises InputError with all problems.
    """
    problems = check(labels, domains, ids, spec)
    if problems:
        raise InputError(*problems)
    _, code = np.unique(labels, return_inverse=True)
    for draw in range(DRAWS if spec.kind in _DRAWN else 1):
        try:
            parts = _deal(labels, code, domains, ids, spec, seed, draw)
        except _DrawError as error:
            problems = [str(error)]
            continue
        problems = _flaws(parts, labels, spec, all_held)
        if not problems:
            return parts
    raise InputError(*problems)


def check(labels: Labels, domains: Names | None, ids: Names | None, spec: "Partition") -> list[str]:
    """Return why these rows cannot be dealt like this, as far as that is known before dealing."""
    n, clients = len(labels), spec.clients
    problems: list[str] = []
    if spec.kind == "dirichlet" and not spec.alpha > 0:
        problems.append(f"data.partition.alpha is {spec.alpha:g}; it must be greater than 0.")
    if spec.kind in OWN_TEST:
        return problems + _check_names(domains, ids, spec)
    if clients is None:
        if spec.kind in _DRAWN:
            problems.append(
                f"data.partition.clients is missing; kind '{spec.kind}' needs a number of clients."
            )
        return problems
    if clients < 1:
        problems.append(f"data.partition.clients is {clients}; it must be at least 1.")
    if clients > n:
        problems.append(
            f"data.partition.clients is {clients} but there are {n} rows to deal; it must be at most {n}."
        )
    elif clients * spec.min_samples > n:
        problems.append(
            f"data.partition: {clients} clients with min_samples {spec.min_samples} need "
            f"{clients * spec.min_samples} rows but there are {n} to deal; min_samples "
            f"must be at most {n // clients}."
        )
    per_client = spec.samples_per_client
    if per_client is not None and spec.kind in ("iid", "dirichlet") and clients * per_client > n:
        problems.append(
            f"data.partition: {clients} clients with samples_per_client {per_client} need "
            f"{clients * per_client} rows but there are {n} to deal; samples_per_client must be at most "
            f"{n // max(clients, 1)}."
        )
    if per_client is not None and spec.kind in _DRAWN and per_client < spec.min_samples:
        problems.append(
            f"data.partition.min_samples is {spec.min_samples}; it must be at most "
            f"samples_per_client, {per_client}."
        )
    return problems + _check_classes(labels, spec, clients)


def _check_classes(labels: Labels, spec: "Partition", clients: int) -> list[str]:
    held, sizes = np.unique(labels, return_counts=True)
    classes, ways = len(held), spec.classes_per_client
    if spec.kind == "shard":
        shards = clients * spec.shards_per_client
        if shards > len(labels):
            return [
                f"data.partition.shards_per_client is {spec.shards_per_client}, which "
                f"makes {shards} shards of "
                f"{len(labels)} rows; it must be at most {len(labels) // max(clients, 1)}."
            ]
    if spec.kind not in ("pathological", "ways-shots"):
        return []
    if ways > classes:
        return [
            f"data.partition.classes_per_client is {ways} but there are {classes} "
            "classes; it must be at most that."
        ]
    problems = []
    spread = spec.spread if spec.kind == "ways-shots" else 0
    if clients * min(ways + spread, classes) < classes:
        problems.append(
            f"data.partition: {clients} clients with {ways} classes each cannot hold all {classes} classes; "
            f"classes_per_client must be at least {-(-classes // max(clients, 1))}."
        )
    if spec.kind == "pathological" and clients * ways > int(sizes.sum()):
        problems.append(
            f"data.partition: {clients} clients with {ways} classes each need a row "
            "for each of them, but there "
            f"are {int(sizes.sum())} rows; classes_per_client must be at most {int(sizes.sum()) // clients}."
        )
    needed = clients * max(min(2, ways), ways - spread) * max(1, spec.shots - spread)
    if spec.kind == "ways-shots" and needed > len(labels):
        problems.append(
            f"data.partition: {clients} clients with about {ways} classes of "
            f"{spec.shots} rows need more than the "
            f"{len(labels)} rows to deal; shots must be at most {max(1, len(labels) // (clients * ways))}."
        )
    return problems


def _check_names(domains: Names | None, ids: Names | None, spec: "Partition") -> list[str]:
    names = owner_names(domains, ids, spec)
    if names is None:
        return [
            "data.partition.kind is 'domain' but the data has no domains; data.dataset must name several."
            if spec.kind == "domain"
            else "data.partition.kind is 'natural-id' but the data has no natural "
            "ids; data.partition.column must "
            "name the column that holds them."
        ]
    if missing := int(blank(names).sum()):
        what = "domain" if spec.kind == "domain" else "natural id"
        return [f"{missing} of {len(names)} rows have no {what}; each must have one, or be left out."]
    _, sizes = np.unique(names, return_counts=True)
    usable = int((sizes >= spec.min_samples).sum())
    if spec.kind == "domain":
        if spec.clients not in (None, len(sizes)):
            return [
                f"data.partition.clients is {spec.clients} but there are {len(sizes)} "
                "domains; it must be left out."
            ]
        if usable < len(sizes):
            return [
                f"data.partition.min_samples is {spec.min_samples} but the smallest "
                f"domain has {int(sizes.min())} "
                "rows; it must be at most that."
            ]
    elif usable < (spec.clients or 1):
        return [
            f"data.partition.clients is {spec.clients or 1} but {usable} natural ids have at least "
            f"{spec.min_samples} rows; it must be at most {usable}, or min_samples smaller."
        ]
    return []


def owner_names(domains: Names | None, ids: Names | None, spec: "Partition") -> Names | None:
    """Return the name per row that decides whose it is (domain and natural-id), or None."""
    if spec.kind == "domain":
        return domains
    return ids if ids is not None or spec.column is not None else domains


class _DrawError(Exception):
    """One draw could not be completed; another one may be."""


def _deal(
    labels: Labels,
    code: Labels,
    domains: Names | None,
    ids: Names | None,
    spec: "Partition",
    seed: int,
    draw: int,
) -> list[Indices]:
    """Draw once; ``code`` are the labels that occur, numbered from 0 without gaps."""
    rng = numpy_stream(seed, "partition", draw)
    names = owner_names(domains, ids, spec) if spec.kind in OWN_TEST else None
    if names is not None:
        parts = _by_name(names, spec, rng)
    elif spec.kind not in _DRAWN:
        return _by_function(labels, spec, rng)
    elif spec.kind == "ways-shots":
        parts = _ways_shots(code, spec, rng)
    elif spec.kind == "whole-classes":
        parts = whole_classes(code, int(spec.clients or 1), rng)
    elif spec.kind == "dirichlet":
        parts = _dirichlet(code, spec, rng, seed_of(seed, "partition", draw, "flower"))
    else:
        parts = _by_flower(code, spec, rng, seed_of(seed, "partition", draw, "flower"))
    if spec.samples_per_client is not None and spec.kind in (
        *("pathological", "shard", "whole-classes"),
        *OWN_TEST,
    ):
        parts = [rng.permutation(part)[: spec.samples_per_client] for part in parts]
    return [np.sort(part) for part in parts]


def _flaws(parts: list[Indices], labels: Labels, spec: "Partition", all_held: bool) -> list[str]:
    """Return what is wrong with a finished partition."""
    problems = []
    remedy = _REMEDY.get(spec.kind, "another partition must be chosen")
    smallest = min((len(part) for part in parts), default=0)
    if smallest < spec.min_samples:
        short = sum(len(part) < spec.min_samples for part in parts)
        problems.append(
            f"data.partition: {short} of {len(parts)} clients get fewer than "
            f"min_samples {spec.min_samples} rows"
            f"{f' in each of {DRAWS} draws' if spec.kind in _DRAWN else ''}; {remedy}."
        )
    lost = np.setdiff1d(labels, labels[np.concatenate(parts)] if parts else labels[:0])
    if len(lost) and all_held and spec.kind not in OWN_TEST:
        which = f"class {lost[0]} is" if len(lost) == 1 else f"classes {', '.join(map(str, lost[:10]))} are"
        problems.append(
            f"data.partition: {which} held by no "
            f"client{f' in any of {DRAWS} draws' if spec.kind in _DRAWN else ''}; "
            f"{remedy}."
        )
    return problems


def _by_flower(code: Labels, spec: "Partition", rng: np.random.Generator, seed: int) -> list[Indices]:
    """Deal with a partitioner of flwr-datasets: it sees the labels only, of rows in a random order."""
    order = rng.permutation(len(code))
    clients = int(spec.clients or 1)
    made: Any
    if spec.kind == "iid" and spec.samples_per_client is not None:
        order = order[: clients * spec.samples_per_client]
    total = len(order)
    if spec.kind == "iid" and spec.sizes == "equal":
        # What flwr-datasets' IidPartitioner gives, which takes a millisecond for each client.
        return [np.asarray(part, dtype=np.int64) for part in np.array_split(order, clients)]
    from datasets import Dataset as Table

    flower = _partitioners()
    if spec.kind == "iid":
        make: Callable[[], Any] = {
            "linear": lambda: flower.LinearPartitioner(clients),
            "square": lambda: flower.SquarePartitioner(clients),
            "exponential": lambda: flower.ExponentialPartitioner(clients),
            "lognormal": lambda: flower.SizePartitioner(lognormal(total, clients, spec.min_samples, rng)),
        }[spec.sizes]
        made = make()
    elif spec.kind == "pathological":
        # Clients in turn get a class each before the others are drawn, as in the paper: no class is left out
        # where clients are enough.
        made = flower.PathologicalPartitioner(
            clients, "label", spec.classes_per_client, "first-deterministic", shuffle=False, seed=seed
        )
    else:
        made = flower.ShardPartitioner(
            clients, "label", spec.shards_per_client, keep_incomplete_shard=False, shuffle=False, seed=seed
        )
    table = Table.from_dict({"row": order, "label": code[order]})
    try:
        return _read_back(made, table, clients)
    except (ValueError, FloatingPointError) as error:
        raise _cannot(code, spec) from error


def _dirichlet(code: Labels, spec: "Partition", rng: np.random.Generator, seed: int) -> list[Indices]:
    order, clients = rng.permutation(len(code)), int(spec.clients or 1)
    draws, size = np.random.default_rng(seed), spec.samples_per_client
    if size is None:
        parts = by_class(code[order], clients, spec.alpha, spec.min_samples, draws)
    else:
        parts = by_client(code[order], clients, size, spec.alpha, draws)
    if parts is None:
        raise _cannot(code, spec)
    return [order[part] for part in parts]


def _cannot(code: Labels, spec: "Partition") -> _DrawError:
    return _DrawError(
        f"data.partition: {spec.kind} cannot deal {len(code)} rows to {spec.clients} clients in any of "
        f"{DRAWS} draws; {_REMEDY[spec.kind]}."
    )


def _by_name(names: Names, spec: "Partition", rng: np.random.Generator) -> list[Indices]:
    """Deal each name's rows to a client of its own, in the order of names.

    As flwr-datasets' NaturalIdPartitioner does, which takes seconds where there are many rows.
    """
    _, code, sizes = np.unique(names, return_inverse=True, return_counts=True)
    chosen = np.flatnonzero(sizes >= spec.min_samples)
    if spec.clients is not None:
        chosen = np.sort(rng.choice(chosen, spec.clients, replace=False))
    order, ends = np.argsort(code, kind="stable"), np.cumsum(sizes)
    return [order[ends[owner] - sizes[owner] : ends[owner]] for owner in chosen]


def _by_function(labels: Labels, spec: "Partition", rng: np.random.Generator) -> list[Indices]:
    try:
        function = registry.find("datasets", spec.kind)
    except InputError as error:
        raise InputError(*(f"data.partition.kind: {problem}" for problem in error.problems)) from error
    where = f"partition function '{spec.kind}'"
    if not callable(function):
        raise InputError(f"{where} is a {type(function).__name__}; it must be a function.")
    made = function(labels, spec, rng)
    if not isinstance(made, list | tuple) or not made:
        raise InputError(f"{where} returned {type(made).__name__}; it must return a list of index arrays.")
    parts = [np.asarray(part) for part in made]
    if any(part.ndim != 1 or (part.size and part.dtype.kind not in "iu") for part in parts):
        raise InputError(f"{where} returned something else than one-dimensional arrays of whole numbers.")
    rows = np.concatenate(parts).astype(np.int64)
    problems = []
    if rows.size and (rows.min() < 0 or rows.max() >= len(labels)):
        problems.append(
            f"{where} returned rows from {rows.min()} to {rows.max()}; they must lie "
            f"in 0 to {len(labels) - 1}."
        )
    if len(np.unique(rows)) < len(rows):
        problems.append(f"{where} gives a row to two clients; the arrays must be disjoint.")
    if spec.clients not in (None, len(parts)):
        problems.append(
            f"{where} returned {len(parts)} clients but data.partition.clients is {spec.clients}."
        )
    if problems:
        raise InputError(*problems)
    return [np.sort(part.astype(np.int64)) for part in parts]


def _ways_shots(code: Labels, spec: "Partition", rng: np.random.Generator) -> list[Indices]:
    """Deal each client ``ways`` classes and ``shots`` rows of each, drawn within plus or minus ``spread``.

    Each client has one number of classes and one number of rows per class; at least two classes, unless
    ``classes_per_client`` is 1, and one row.
    """
    sizes = np.bincount(code)
    classes, clients = len(sizes), int(spec.clients or 1)
    low = max(min(2, spec.classes_per_client), spec.classes_per_client - spec.spread)
    ways = rng.integers(low, min(classes, spec.classes_per_client + spec.spread), clients, endpoint=True)
    shots = rng.integers(max(1, spec.shots - spec.spread), spec.shots + spec.spread, clients, endpoint=True)
    # rank[k, c] < ways[k] says that client k holds class c.
    rank = np.argsort(rng.random((clients, classes)), axis=1).argsort(axis=1)
    wanted = np.where(rank < ways[:, None], shots[:, None], 0)
    demand = wanted.sum(axis=0)
    if (demand > sizes).any():
        worst = int(np.argmax(demand - sizes))
        raise _DrawError(
            "data.partition: ways-shots asks for more rows of a class than there are, in each of "
            f"{DRAWS} draws ({demand[worst]} of {sizes[worst]} in the last); {_REMEDY['ways-shots']}."
        )
    order = rng.permutation(len(code))
    rows_of = np.split(order[np.argsort(code[order], kind="stable")], np.cumsum(sizes)[:-1])
    cuts = [np.split(rows_of[c][: demand[c]], np.cumsum(wanted[:, c])[:-1]) for c in range(classes)]
    return [np.concatenate([cuts[c][k] for c in range(classes)]) for k in range(clients)]


def _read_back(made: Any, table: Any, clients: int) -> list[Indices]:
    """Let a partitioner deal a table's rows and return the column ``row`` of each part."""
    with _quiet():
        made.dataset = table
        parts = (made.load_partition(client).with_format("numpy")[:]["row"] for client in range(clients))
        return [np.asarray(part, dtype=np.int64) for part in parts]


def _partitioners() -> Any:
    """Import flwr-datasets' partitioners alone: what the package draws with takes a second more."""
    name, spec = "flwr_datasets", importlib.util.find_spec("flwr_datasets")
    if name in sys.modules or spec is None:
        return importlib.import_module(f"{name}.partitioner")
    bare = sys.modules[name] = ModuleType(name)
    bare.__path__ = list(spec.submodule_search_locations or ())
    try:
        return importlib.import_module(f"{name}.partitioner")
    finally:
        del sys.modules[name]  # who asks for the package gets all of it


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings and progress bars of flwr-datasets and its libraries off the user's screen."""
    import datasets

    disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with (
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        if not disabled:
            datasets.enable_progress_bars()
