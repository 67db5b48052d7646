"""Data sets in the format of Hugging Face ``datasets``: from the Hub, or a folder on disk.

``hf:NAME`` or ``hf:NAME:CONFIGURATION`` is loaded from the Hub by the ``datasets`` library, unless NAME is
a folder (absolute, or below the data folder) that ``save_to_disk`` wrote, or that holds files which the
library reads, such as CSV or Parquet.

Which columns are used follows from their names and types, and from what the scenario chooses:

- label: ``data.label`` (several where rows have several labels or numbers to predict), else the column named
  ``label``, else the only one named ``labels target class y fine_label``, else the only ``ClassLabel``; texts
  and ``ClassLabel`` are names;
- rows (``data.kind``): the image column; else ``input_ids``, as token ids; else the text named ``text
  sentence content review document`` or the only one, where there are no numbers; else all numbers, a table.
  Columns of names, of texts beside numbers, and of what names rows are left out, and said to be;
- training rows are the split ``train`` or the only one, test rows the first of ``test validation valid
  dev`` whose labels are known.

What these leave open is refused with the choice to make.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.arrow import column_of, ids_of, label_of, lists_of, numbers_in
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import listed
from fedkt.data.columns.named import LeftOut, chosen, features, targets_of
from fedkt.data.images.decoding import stack
from fedkt.data.sets.dataset import AS_READ, Dataset, Split, dataset_of
from fedkt.data.sets.joining import split_of
from fedkt.errors import InputError
from fedkt.files import data_places
from fedkt.registry import did_you_mean

_LABELS = ("label", "labels", "target", "class", "y", "fine_label")
_TEXTS = ("text", "sentence", "content", "review", "document")
_TOKENS = "input_ids"
_FILES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".txt", ".png", ".jpg", ".jpeg")
_BESIDE_TOKENS = ("attention_mask", "token_type_ids", "special_tokens_mask", "length")
_TESTS = ("test", "validation", "valid", "dev")


def load_hub(name: str, data_dir: Path | None, column: str | None, choices: Choices = AS_READ) -> Split:
    """Load a data set; ``column`` holds the natural ids. Raises InputError where it cannot be used."""
    where = f"hf:{name}"
    splits = _open(name, data_dir)
    train = splits.get("train")
    if train is None:
        if len(splits) != 1:
            raise InputError(f"{where} has the splits {', '.join(splits)}; one must be named 'train'.")
        train = next(iter(splits.values()))
    if column is not None and column not in train.column_names:
        raise InputError(
            f"{where} has no column '{column}'; data.partition.column must be one of "
            f"{', '.join(train.column_names)}."
        )
    labels = _label_columns(where, train, choices)
    made = _dataset(f"{where}: train", train, labels, column, choices)
    others = [split for split in _TESTS if split in splits and splits[split] is not train]
    test = next((split for split in others if _labels_known(splits[split], labels, choices)), None)
    unknown = others[: len(others) if test is None else others.index(test)]
    return split_of(
        where,
        made,
        None if test is None else _dataset(f"{where}: {test}", splits[test], labels, column, choices),
        choices=choices,
        left_out=[
            (f"split {split}", "labels unknown" if split in unknown else "not read")
            for split, held in splits.items()
            if held is not train and split != test
        ],
    )


def _open(name: str, data_dir: Path | None) -> dict[str, Any]:
    """Return the splits by name."""
    import datasets

    folder, saved = _folder(name, data_dir)
    # The libraries' bars and the log of their repeated attempts are muted; errors come as exceptions.
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        if folder is not None and saved:
            found = datasets.load_from_disk(str(folder))
        elif folder is not None:  # of CSV, JSON or Parquet files, or of pictures
            found = datasets.load_dataset(str(folder.absolute()))
        else:
            repository, _, configuration = name.partition(":")
            found = datasets.load_dataset(repository, configuration or None)
    except Exception as error:  # the library and its network stack raise dozens of types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"hf:{name} cannot be loaded ({type(error).__name__}: "
            f"{reason.rstrip('.')}); it must be the name of a "
            "data set on the Hugging Face Hub, which must be reachable, or a folder that save_to_disk wrote."
        ) from error
    finally:
        log.setLevel(level)
        if shown:
            datasets.enable_progress_bars()
    return dict(found) if isinstance(found, dict) else {"train": found}


def _folder(name: str, data_dir: Path | None) -> tuple[Path | None, bool]:
    """Return the folder that a name stands for, if any, and whether ``save_to_disk`` wrote it."""
    places = [Path(name), *data_places(name, data_dir)]
    for place in places:
        if any(
            (place / marker).is_file() for marker in ("dataset_dict.json", "dataset_info.json", "state.json")
        ):
            return place, True
    return next((place for place in places if _is_readable(place)), None), False


def _is_readable(folder: Path) -> bool:
    """Say whether a folder holds files that the library makes a data set of."""
    return folder.is_dir() and any(file.suffix.lower() in _FILES for file in folder.rglob("*"))


def _label_columns(where: str, table: Any, choices: Choices) -> list[str]:
    """Return the columns of labels; none where nobody reads them and none stands out."""
    from datasets import ClassLabel

    if choices.label is not None:
        unknown = [name for name in choices.label_columns if name not in table.column_names]
        if unknown and choices.labelled:
            raise InputError(
                *(
                    f"{where} has no column '{name}', which data.label names; "
                    f"{did_you_mean(name, table.column_names)}"
                    for name in unknown
                )
            )
        return [name for name in choices.label_columns if name not in unknown]
    columns = [name for name in table.column_names if name not in choices.drop]
    named = [name for name in _LABELS if name in columns]
    typed = [name for name in columns if isinstance(table.features[name], ClassLabel)]
    likely = named or typed
    if len(likely) == 1 or (named and named[0] == "label"):
        return likely[:1]
    if not choices.labelled:
        return []
    if not likely:
        raise InputError(
            f"{where} has the columns {listed(table.column_names)}; its labels must be of type ClassLabel or "
            f"in a column named one of {', '.join(_LABELS)}, or data.label must name their column."
        )
    raise InputError(
        f"{where} has the columns {listed(likely)}, each of which may be the label; data.label must name it."
    )


def _is_like_a_label(name: str) -> bool:
    """Say whether a name is, or ends in, one that labels have: ``coarse_label``."""
    return name in _LABELS or name.lower().endswith(tuple(f"_{word}" for word in _LABELS))


def _labels_known(table: Any, labels: list[str], choices: Choices) -> bool:
    """Say whether a split has labels: classes that nobody knows are blank, or -1."""
    if not labels or any(name not in table.column_names for name in labels):
        return False
    held = [column_of(table, name) for name in labels]
    if any(values.null_count == len(values) for values in held):
        return False
    known = label_of(held[0])
    numbered = choices.task == "classification" and known.dtype.kind in "iuf"
    return not numbered or bool(known.size and known.min() >= 0)


def _dataset(where: str, table: Any, labels: list[str], column: str | None, choices: Choices) -> Dataset:
    from datasets import ClassLabel

    y, names = None, None
    if choices.labelled and labels:
        y = targets_of({name: label_of(column_of(table, name)) for name in labels}, labels, choices)
        feature = table.features[labels[0]]
        names = list(feature.names) if len(labels) == 1 and isinstance(feature, ClassLabel) else None
    ids = None
    if column is not None and column in table.column_names:
        feature = table.features[column]
        ids = ids_of(column_of(table, column), feature.names if isinstance(feature, ClassLabel) else None)
    domain = None
    if choices.site is not None and choices.site in table.column_names:
        feature = table.features[choices.site]
        names_of_sites = feature.names if isinstance(feature, ClassLabel) else None
        domain = ids_of(column_of(table, choices.site), names_of_sites)
    columns = [c for c in table.column_names if c not in (*labels, column, choices.site)]
    for what, name in (*(("labels", name) for name in labels), ("natural ids", column)):
        if choices.columns is not None and name in choices.columns and choices.labelled:
            raise InputError(f"{where}: data.columns names {name!r}, which holds the {what}; leave it out.")
    rows, out = _rows(where, table, columns, labels, choices)
    # The choice of columns was made here, by their types too.
    taken = tuple(rows) if isinstance(rows, dict) else None
    said = replace(choices, label=None, columns=taken, drop=(), labels=None)
    return dataset_of(where, rows, y, domain=domain, ids=ids, choices=said, label_names=names, left_out=out)


def _rows(
    where: str, table: Any, columns: list[str], labels: list[str], choices: Choices
) -> tuple[Any, list[LeftOut]]:
    """Return the rows, an array or a table's columns by name, and what is left out."""
    kept, out = chosen(where, columns, choices)
    kinds = {name: _type_of(table.features[name]) for name in kept}
    of: dict[str, list[str]] = {
        kind: [name for name in kept if kinds[name] == kind] for kind in set(kinds.values())
    }
    images, texts, lists = (of.get(kind, []) for kind in ("image", "text", "list"))
    numbers = [name for name in features(where, kept, choices)[0] if kinds[name] == "number"]
    kind = choices.kind or _kind(where, images, texts, numbers, lists)
    if kind == "image" and images:
        return _pictures(where, table, _only(where, images, "image")), out + _but(
            kept, images[0], "not the image"
        )
    if kind == "image" and not lists:
        raise InputError(f"{where}: data.kind is image, but no column holds images.")
    if kind == "text":
        named = [name for name in _TEXTS if name in texts] if len(texts) > 1 else texts
        text = _only(where, named or texts, "text")
        return label_of(column_of(table, text)), out + _but(kept, text, "not the text")
    if kind == "tokens" and (lists or not numbers):
        ids = _TOKENS if _TOKENS in lists else _only(where, lists, "list of token ids")
        masks = "attention_mask" if "attention_mask" in lists else None
        return _tokens(where, table, ids, masks), out + _but(kept, ids, "not the token ids")
    if not numbers and len(lists) == 1 and kind != "table":
        return _vectors(where, table, lists[0]), out + _but(kept, lists[0], "not the rows")
    return _table(where, table, kept, kinds, labels, choices, out)


def _kind(
    where: str, images: list[str], texts: list[str], numbers: list[str], lists: list[str]
) -> str | None:
    """Return what the types of the columns make of the rows; None where the form of a list decides."""
    if images:
        return "image"
    if _TOKENS in lists:
        return "tokens"
    named = [name for name in _TEXTS if name in texts]
    if named and numbers:
        raise InputError(
            f"{where} has the text {named[0]!r} beside the numbers {listed(numbers)}; data.kind must be text "
            "or table, or data.drop name what is no part of the rows."
        )
    if not numbers and not lists and texts:
        return "text"
    return None if lists and not numbers else "table"


def _type_of(feature: Any) -> str:
    """Return what a column holds: image, names, text, number, list or other."""
    from datasets import ClassLabel, Image, Value

    if isinstance(feature, Image):
        return "image"
    if isinstance(feature, ClassLabel):
        return "names"
    if not isinstance(feature, Value):
        return (
            "list"
            if type(feature).__name__ in ("Sequence", "List", "LargeList", "list")
            else _nested(feature)
        )
    if "string" in feature.dtype:
        return "text"
    numeric = ("int", "uint", "float", "double", "bool", "decimal", "null")
    return "number" if feature.dtype.startswith(numeric) else "other"


def _nested(feature: Any) -> str:
    return "list" if type(feature).__name__.startswith("Array") else "other"


def _only(where: str, names: list[str], what: str) -> str:
    if len(names) != 1:
        held = f"the columns {listed(names)}, each of which may be" if names else "no column that is"
        raise InputError(f"{where} has {held} the {what}; data.columns must name one.")
    return names[0]


def _but(names: list[str], one: str, why: str) -> list[LeftOut]:
    return [(name, why) for name in names if name != one]


def _pictures(where: str, table: Any, name: str) -> NDArray[Any]:
    column = table.select_columns([name]).with_format(None)
    return stack(f"{where}: column '{name}'", (row[name] for row in column))


def _column(table: Any, name: str) -> NDArray[Any]:
    return np.asarray(table.select_columns([name]).with_format("numpy")[:][name])


def _vectors(where: str, table: Any, name: str) -> NDArray[Any]:
    """Return the only list of each row, of one length: pixels, token ids or a vector."""
    flat = lists_of(column_of(table, name))
    if flat is not None:
        return flat
    try:
        values = _column(table, name)
    except ValueError:  # a row without a list among others
        values = np.zeros(0, object)
    if values.dtype == object:
        raise InputError(
            f"{where}: lists in column '{name}' differ in length or lack values; a table needs equal ones, "
            "and data.kind: tokens pads token ids."
        )
    return values


def _tokens(where: str, table: Any, name: str, mask: str | None) -> NDArray[Any]:
    """Return token ids [n, L], padded with 0 at their end and 0 where the mask is."""
    values = column_of(table, name).to_pylist()
    if any(row is None or None in row for row in values):
        raise InputError(f"{where}: column '{name}' lacks token ids in some rows; each row must have them.")
    masks = None if mask is None else column_of(table, mask).to_pylist()
    made = np.zeros((len(values), max(map(len, values), default=0)), np.int64)
    for row, ids in enumerate(values):
        made[row, : len(ids)] = ids if masks is None else np.multiply(ids, masks[row])
    return made


def _table(
    where: str,
    table: Any,
    kept: list[str],
    kinds: dict[str, str],
    labels: list[str],
    choices: Choices,
    out: list[LeftOut],
) -> tuple[dict[str, Any], list[LeftOut]]:
    """Return the columns of a table by name, and what is left out."""
    found: dict[str, Any] = {}
    names, more = features(where, kept, Choices(columns=choices.columns))
    out = out + [one for one in more if one not in out]
    also = [name for name in names if kinds[name] == "number" and _is_like_a_label(name)]
    if also and choices.label is None and choices.columns is None and labels:
        raise InputError(
            f"{where} has the columns {listed([*labels, *also])}, each of which may be the label; data.label "
            "must name it, and data.drop those that say the same."
        )
    categories = dict(choices.categories)
    for name in names:
        values: Any = None
        if name in categories:
            feature = table.features[name]
            values = ids_of(column_of(table, name), feature.names if kinds[name] == "names" else None)
        elif kinds[name] == "number":
            values = numbers_in(column_of(table, name))
        elif kinds[name] == "list":
            values = lists_of(column_of(table, name))
        if values is None:
            why = {"text": "text", "names": "names, not numbers", "list": "lists of different lengths"}
            out.append((name, why.get(kinds[name], "no numbers")))
            if choices.columns is not None:
                raise InputError(
                    f"{where}: column {name!r}, which data.columns names, holds {out[-1][1]}; write it as "
                    "numbers, or leave it out."
                )
            continue
        found[name] = values
    if not found:
        raise InputError(
            f"{where} has the columns {listed(table.column_names)}; one must hold images, texts or numbers."
        )
    return found, out
