"""Finding a data set from what a scenario writes for it.

A specification is one of

``digits``
    or another registered name (entry points ``fedkt.datasets``).
``csv:FILE``, ``parquet:FILE``
    see :mod:`fedkt.data.sets.flat_files`.
``npz:FILE``, ``npz:FILE#DOMAIN``
    see :mod:`fedkt.data.sets.npz`.
``images:FOLDER``
    see :mod:`fedkt.data.sets.image_folder`.
``triples:FILE``, ``triples:FOLDER``
    see :mod:`fedkt.data.graph.triples`.
``hf:NAME``
    see :mod:`fedkt.data.sets.hub`.
``package.module:function``
    called without arguments, or with ``data_dir`` (a Path or None) where it has such a parameter. It
    returns ``x, y``, or ``x, y, domain`` with a name per row (a seeded 20 % is then held out as test rows
    when a federation is built), or a table whose columns ``data.label`` and ``data.site`` name, or a
    :class:`Split`. ``x``: an array, or columns by name (a data frame, a mapping, a structured array).
a mapping from domains to specifications
    all rows of each become rows of that domain.
"""

import inspect
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt import registry
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.named import chosen, columns_of
from fedkt.data.graph.triples import Read, read_triples
from fedkt.data.sets.dataset import AS_READ, Dataset, Split, check_unnamed, dataset_of
from fedkt.data.sets.joining import join_domains, split_of
from fedkt.data.sets.spreading import widened
from fedkt.errors import InputError
from fedkt.files import data_places
from fedkt.tasks import named

if TYPE_CHECKING:
    from fedkt.scenario import Image


FILES = ("csv", "parquet")
"""Kinds of files that are data sets by themselves."""
PREFIXES = ("tsv", "feather", "arrow", "json", "jsonl", "excel", "xls", "xlsx", "file")
"""What people write before a file's name that is no data set by itself."""
ENDINGS = (
    *FILES,
    *PREFIXES,
    *(
        "txt",
        "data",
        "dat",
        "ndjson",
        "xml",
        "arff",
        "h5",
        "hdf5",
        "mat",
        "pkl",
        "pickle",
        "npy",
        "pt",
        "pth",
    ),
    *("zip", "gz", "tar", "tgz", "db", "sqlite", "libsvm", "svm", "dta", "sas7bdat", "sav", "orc", "avro"),
)
"""How such names end."""
WHAT_THERE_IS = (
    "a data set is csv:FILE, parquet:FILE, npz:FILE (arrays x_train y_train, as numpy.savez writes them), "
    "images:FOLDER, triples:FILE (links, one a line), hf:NAME (of the Hugging Face Hub, or a folder that "
    "datasets.Dataset.save_to_disk wrote) or package.module:function, which returns a table, or x and y"
)


def load_dataset(
    spec: Any,
    data_dir: Path | None = None,
    image: "Image | None" = None,
    *,
    column: str | None = None,
    choices: Choices = AS_READ,
) -> Split:
    """Load what ``spec`` stands for (see above).

    ``image`` is used only where domains must be brought to one shape to become one array; otherwise the
    rows stay raw. ``column`` names the natural ids of npz files and Hugging Face data sets.
    Raises InputError with all problems that were found.
    """
    if isinstance(spec, Mapping):
        return _load_domains(spec, data_dir, image, column, choices)
    if isinstance(spec, str):
        _check_form(spec, data_dir)
    if isinstance(spec, str) and spec.startswith("hf:"):
        from fedkt.data.sets.hub import load_hub

        return load_hub(spec.removeprefix("hf:"), data_dir, column, choices)
    kind, _, name = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if kind in FILES:
        from fedkt.data.sets import flat_files

        load = flat_files.load_csv if kind == "csv" else flat_files.load_parquet
        return load(name, data_dir, column, choices)
    if choices.label is not None and (kind in ("npz", "images", "triples") or name == ""):
        raise InputError(
            f"data.label names a column, but {spec!r} gives rows and labels apart; it must be left out."
        )
    if kind == "images":
        from fedkt.data.sets.image_folder import load_images

        return load_images(name, data_dir, image, choices)
    if kind == "triples":
        return links(str(spec), read_triples(name, data_dir, repeats=not choices.labelled), choices)
    if isinstance(spec, str) and spec.startswith("npz:"):
        from fedkt.data.sets.npz import load_npz

        return load_npz(spec.removeprefix("npz:"), data_dir, image, column, choices)
    return _call(registry.find("datasets", spec), str(spec), data_dir, column, choices)


def _check_form(spec: str, data_dir: Path | None) -> None:
    """Refuse what is meant as a file but is no data set, with what one is."""
    prefix, _, name = spec.partition(":") if ":" in spec else ("", "", spec)
    ending = name.partition("#")[0].rpartition(".")[2].lower() if "." in name else ""
    if not prefix and ending in ("npz", *FILES):
        raise InputError(f"there is no data set {spec!r}; such a file is written as '{ending}:{spec}'.")
    if prefix in FILES or prefix in ("images", "triples"):
        return
    is_file = bool(name) and any(place.is_file() for place in data_places(name, data_dir))
    if prefix == "":
        wrong = (ending in ENDINGS or "/" in name or is_file) and name not in registry.names("datasets")
    elif prefix == "hf":
        wrong = is_file or (ending in ENDINGS and "/" not in name)
    else:
        wrong = prefix.lower() in PREFIXES or (prefix == "npz" and ending in ENDINGS and ending != "npy")
        wrong = wrong or (prefix != "npz" and not registry.IMPORT_PATH.fullmatch(spec) and is_file)
    if wrong:
        raise InputError(f"{spec!r} is no data set: {WHAT_THERE_IS}.")


def links(where: str, read: Read, choices: Choices = AS_READ) -> Split:
    """Return links as rows of three token ids, whose target is the relation."""
    check_unnamed(where, choices)
    graph, parts = read.graph, {}
    for half, triples in read.parts.items():
        y = triples[:, 1] - graph.relation(0)
        if choices.labelled:
            y, _ = named(choices.task, choices.ranges).read(where, y, choices, graph.relations)
        else:
            y = np.full_like(y, -1)
        names = graph.relations if choices.labelled else None
        parts[half] = Dataset(
            triples, y, None, "tokens", vocabulary=graph.tokens, label_names=names, graph=graph
        )
    if not all(map(len, parts.values())):
        raise InputError(f"{where}: all its test links are training links too; they must be others.")
    out = [(f"{read.repeated} repeated links", "they are there already")] if read.repeated else []
    return split_of(where, parts["train"], parts.get("test"), choices=choices, left_out=out)


def _load_domains(
    spec: Mapping[str, Any],
    data_dir: Path | None,
    image: "Image | None",
    column: str | None,
    choices: Choices,
) -> Split:
    splits: dict[str, Split] = {}
    problems: list[str] = []
    for name, part in spec.items():
        try:
            made = load_dataset(part, data_dir, image, column=column, choices=choices.at(str(name)))
            test = None if made.test is None else widened(made.test, choices)
            splits[str(name)] = replace(made, train=widened(made.train, choices), test=test)
        except InputError as error:
            problems.extend(f"domain '{name}': {problem}" for problem in error.problems)
    if not spec:
        problems.append("a mapping from domains to data sets is empty; it must name at least one domain.")
    if problems:
        raise InputError(*problems)
    return join_domains("", splits, image, choices)


def _call(function: Any, spec: str, data_dir: Path | None, column: str | None, choices: Choices) -> Split:
    """Call a data set function and check what it returns."""
    where = f"data set {spec!r}"
    if not callable(function):
        raise InputError(
            f"{where} is a {type(function).__name__}; it must be a function that returns the data."
        )
    takes_folder = "data_dir" in inspect.signature(function).parameters
    try:
        made = function(data_dir=data_dir) if takes_folder else function()
    except InputError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{where} cannot be made: {type(error).__name__}: {reason} "
            f"({Path(at.filename).name}:{at.lineno})."
        ) from error
    if choices.label is not None and (isinstance(made, Split | tuple) or columns_of(where, made) is None):
        raise InputError(
            f"data.label names a column, but {spec!r} gives rows and labels apart; it must be left out."
        )
    if isinstance(made, Split):
        train = _as_chosen(where, made.train, choices)
        test = None if made.test is None else _as_chosen(where, made.test, choices)
        classes = 2 if choices.target is not None else made.classes
        return split_of(where, train, test, classes, choices=choices, left_out=made.left_out)
    if not isinstance(made, tuple) and (table := columns_of(where, made)) is not None:
        from fedkt.data.sets.flat_files import whole_table

        return whole_table(where, table, column, choices)
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise InputError(
            f"{where} returned a {type(made).__name__}; it must return x, y or x, y, domain, "
            "a table or a Split."
        )
    y, domain = (
        _in_rows_of(where, made[0], values) for values in (made[1], made[2] if len(made) == 3 else None)
    )
    return split_of(
        where, dataset_of(where, made[0], y, domain=domain, choices=choices), None, choices=choices
    )


_KINDS = {"table": "tabular", "tokens": "tokens", "text": "tokens", "image": "image"}


def _as_chosen(where: str, part: Dataset, choices: Choices) -> Dataset:
    """Return rows of a function's own Split with the columns and labels that the scenario makes of them."""
    wanted = None if choices.kind is None else _KINDS[choices.kind]
    if wanted not in (None, part.kind):
        raise InputError(f"{where}: data.kind is {choices.kind}, but its rows are {part.kind}.")
    if part.columns is None:
        check_unnamed(where, choices)
    else:
        kept, out = chosen(where, part.columns, choices)
        rows = part.x[:, [part.columns.index(name) for name in kept]]
        part = replace(part, x=rows, columns=tuple(kept), left_out=(*part.left_out, *out))
    if not choices.labelled:
        return replace(part, y=named(choices.task).of_rows(part.x))
    y, names = named(choices.task, choices.ranges).read(where, part.y, choices, part.label_names)
    return replace(part, y=y, label_names=names)


def _in_rows_of(where: str, x: Any, values: Any) -> Any:
    """Return a column of pandas in the order of the rows of ``x``, where both name their rows."""
    mine: Any = getattr(values, "index", None)
    theirs: Any = getattr(x, "index", None)
    if not hasattr(mine, "equals") or not hasattr(theirs, "equals") or mine.equals(theirs):
        return values
    if not mine.is_unique or len(mine) != len(theirs) or not mine.sort_values().equals(theirs.sort_values()):
        raise InputError(
            f"{where}: x and what belongs to its rows have different row names (their index), so rows cannot "
            "be matched; reset_index(drop=True) of both says that they are in one order."
        )
    return values.loc[theirs]
