"""Tables as people have them: CSV and Parquet files, and tables that a function returns whole.

``csv:FILE`` and ``parquet:FILE`` are found as npz files are. A CSV file has a line of names; commas,
semicolons or tabs stand between its values, whichever the first line has most of. Which column is what:

- label: ``data.label`` (several where rows have several labels or numbers to predict), else the column named
  ``label``, else the only one of ``LABELS``;
- site: ``data.site``; natural ids: ``data.partition.column``;
- all others are numbers, or one of the few values that ``data.categories`` speaks of. Text beside these is
  refused, so that nothing is lost unseen; what names rows is left out and said to be.

Test rows are held out when a federation is built.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedkt.data.columns.arrow import label_of, numbers_in
from fedkt.data.columns.cells import is_missing, numbers_of
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import listed
from fedkt.data.columns.named import chosen, features, targets_of
from fedkt.data.sets.dataset import Split, dataset_of
from fedkt.data.sets.joining import split_of
from fedkt.data.sets.npz import find_file
from fedkt.errors import InputError
from fedkt.registry import did_you_mean

LABELS = ("label", "labels", "target", "class", "y", "outcome", "diagnosis")
BLOCK = 1 << 20
"""Bytes of a CSV file that decide the types of its columns; a column that is wider later is read again."""
SEPARATORS = ",;\t"
_CONVERSION = re.compile(r"In CSV column #(\d+)")


def load_csv(name: str, data_dir: Path | None, column: str | None, choices: Choices) -> Split:
    """Load a CSV file; ``column`` holds the natural ids. Raises InputError with all problems."""
    return _load(f"csv:{name}", _read_csv, name, data_dir, column, choices)


def load_parquet(name: str, data_dir: Path | None, column: str | None, choices: Choices) -> Split:
    """Load a Parquet file; ``column`` holds the natural ids. Raises InputError with all problems."""
    return _load(f"parquet:{name}", _read_parquet, name, data_dir, column, choices)


def whole_table(where: str, columns: Mapping[str, Any], column: str | None, choices: Choices) -> Split:
    """Make a Split of a table's columns by name, those of labels, sites and natural ids among them."""
    labels = _labels(where, list(columns), choices)
    named = [*(("data.label", name) for name in labels), ("data.partition.column", column)]
    problems = [
        f"{where} has no column {name!r}, which {setting} names; {did_you_mean(name, list(columns))}"
        for setting, name in named
        if name is not None and name not in columns and (choices.labelled or setting != "data.label")
    ]
    if problems:
        raise InputError(*problems)
    taken = {name for name in (*labels, choices.site, column) if name is not None}
    asked = [name for name in choices.columns or () if name in taken]
    if asked:
        raise InputError(
            f"{where}: data.columns names {listed(asked, repr)}, which says the label or whose a row is; "
            "leave it out."
        )
    rows = {name: values for name, values in columns.items() if name not in taken}
    texts = _texts_among(where, rows, choices)
    if texts:
        problems.append(_about_texts(where, rows, texts))
        site = [choices.site] if choices.site is not None and choices.site not in columns else []
        problems += [
            f"{where} has no column {name!r}, which data.site names; {did_you_mean(name, list(columns))}"
            for name in site
        ]
    try:
        made = dataset_of(
            where,
            {name: values for name, values in rows.items() if name not in texts},
            targets_of(columns, labels, choices) if choices.labelled and labels else None,
            domain=columns.get(choices.site) if choices.site is not None else None,
            ids=None if column is None else columns[column],
            choices=choices if not texts else _without(choices, texts),
        )
    except InputError as error:
        raise InputError(*problems, *error.problems) from None
    if problems:
        raise InputError(*problems)
    return split_of(where, made, None, choices=choices)


def _load(
    where: str,
    read: Callable[[str, Path], dict[str, Any]],
    name: str,
    data_dir: Path | None,
    column: str | None,
    choices: Choices,
) -> Split:
    return whole_table(where, read(where, find_file(name, data_dir)), column, choices)


def _labels(where: str, names: list[str], choices: Choices) -> list[str]:
    """Return the columns of labels; none where nobody reads them and none stands out."""
    if choices.label is not None:
        return [name for name in choices.label_columns if choices.labelled or name in names]
    likely = [name for name in LABELS if name in names and name not in choices.drop]
    if len(likely) == 1 or (likely and likely[0] == "label"):
        return likely[:1]
    if not choices.labelled:
        return []
    held = f"the columns {listed(likely)}, each of which may be the label" if likely else "no plain label"
    raise InputError(f"{where} has {held} (of {listed(names)}); data.label must name its column.")


def _texts_among(where: str, rows: Mapping[str, Any], choices: Choices) -> list[str]:
    """Return the columns that hold neither numbers nor what ``data.categories`` speaks of."""
    if choices.kind == "text":
        return []
    kept, _ = chosen(where, list(rows), choices)
    names = features(where, kept, Choices(columns=choices.columns))[0]
    known = dict(choices.categories)
    texts = [name for name in names if name not in known and numbers_of(rows[name]) is None]
    return [] if choices.kind is None and len(names) == 1 else texts  # the only column is the text


def _without(choices: Choices, texts: list[str]) -> Choices:
    """Return the same choices about all other columns."""
    kept = None if choices.columns is None else tuple(n for n in choices.columns if n not in texts)
    return replace(choices, columns=kept or None)


def _about_texts(where: str, rows: Mapping[str, Any], texts: list[str]) -> str:
    told = []
    for name in texts:
        values = np.asarray(rows[name], object)
        first = values[~is_missing(values)][:1]
        told.append(f"{name!r} (such as {str(first[0])[:30]!r})" if len(first) else repr(name))
    return (
        f"{where}: {'column' if len(texts) == 1 else 'the columns'} {listed(told)} "
        f"{'holds' if len(texts) == 1 else 'hold'} no numbers; data.categories must say the values, or "
        "data.drop leave it out."
    )


def _read_csv(where: str, path: Path) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import csv

    with open(path, "rb") as file:
        head = file.readline().decode("utf-8", "replace")
    if not head.strip():
        raise InputError(f"{where} is empty; it must have a line of names, then rows.")
    parse = csv.ParseOptions(delimiter=max(SEPARATORS, key=head.count), newlines_in_values=True)
    wider: dict[str, Any] = {}
    while True:
        convert = csv.ConvertOptions(column_types=wider, strings_can_be_null=False)
        try:
            # Block by block: read at once, the text of the whole file would lie beside its numbers. Nothing
            # but the call holds the table, so that each column is gone once it is numbers.
            with csv.open_csv(path, csv.ReadOptions(block_size=BLOCK), parse, convert) as blocks:
                return _columns(where, pa.Table.from_batches(list(blocks), blocks.schema))
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            found = _CONVERSION.search(str(error))
            names = [] if found is None else _names(path, parse)
            name = names[int(found[1])] if found and int(found[1]) < len(names) else None
            if name is None or wider.get(name) == pa.string():
                reason = " ".join(str(error).split())[:160].rstrip(".")
                raise InputError(f"{where} cannot be read as a table ({reason}).") from None
            # The first block had whole numbers, or numbers, alone.
            wider[name] = pa.float64() if name not in wider and "int64" in str(error) else pa.string()


def _names(path: Path, parse: Any) -> list[str]:
    from pyarrow import csv

    with csv.open_csv(path, parse_options=parse) as reader:
        return [str(name) for name in reader.schema.names]


def _read_parquet(where: str, path: Path) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise InputError(f"{where} cannot be read as a Parquet file ({reason}).") from None
    return _columns(where, table)


def _columns(where: str, table: Any) -> dict[str, Any]:
    """Return a table's columns by name, numbers with NaN where blank, texts with None."""
    import pyarrow as pa

    names = [str(name) for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where} has more than one column named {listed(twice, repr)}; names must differ.")
    if not table.num_rows:
        raise InputError(f"{where} has names of columns but no rows.")
    found: dict[str, Any] = {}
    for name in names:
        column = table.column(0).combine_chunks()
        table = table.remove_column(0)  # so that it is gone once it is numbers
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_binary(column.type):
            raise InputError(f"{where}: column {name!r} holds bytes that are not UTF-8 text.")
        values = None if pa.types.is_null(column.type) else numbers_in(column)
        if values is not None and pa.types.is_integer(column.type) and column.null_count == 0:
            values = column.to_numpy()  # whole numbers stay so: labels, ids
        if pa.types.is_null(column.type):
            values = np.full(len(column), np.nan, np.float32)
        found[name] = _texts(column) if values is None else values
        pa.default_memory_pool().release_unused()
    return found


def _texts(column: Any) -> Any:
    held = label_of(column)
    if held.dtype == object:
        held[held == ""] = None
    return held
