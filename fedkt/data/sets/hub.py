"""Data sets in the format of Hugging Face ``datasets``: from the Hub, or a folder on disk.

``hf:NAME`` or ``hf:NAME:CONFIGURATION`` is loaded from the Hub by the ``datasets`` library, unless NAME is
a folder (absolute, or below the data folder) that ``save_to_disk`` wrote.

Which columns are used follows from their types and names:

- label: the first ``ClassLabel`` column, else the first named ``label labels target class y fine_label``;
  texts become numbers in alphabetical order of the training rows' labels;
- rows: the first image column; else text, the column named ``text sentence content review document``, or
  the only one; else, as a table, all columns of numbers and of number lists of fixed length;
- training rows are the split ``train`` or the only one, test rows the first of ``test validation valid
  dev`` whose labels are known.
"""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.images.decoding import stack
from fedkt.data.sets.dataset import Dataset, Split, dataset_of, split_of
from fedkt.errors import InputError

_LABELS = ("label", "labels", "target", "class", "y", "fine_label")
_TEXTS = ("text", "sentence", "content", "review", "document")
_TESTS = ("test", "validation", "valid", "dev")


def load_hub(name: str, data_dir: Path | None, column: str | None) -> Split:
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
    label = _label_column(where, train)
    names = _label_names(train, label)
    made = _dataset(f"{where}: train", train, label, names, column)
    others = (splits[s] for s in _TESTS if s in splits and splits[s] is not train)
    test = next((other for other in others if _labels_known(other, label)), None)
    classes = len(names) if names is not None else getattr(train.features[label], "num_classes", None) or 0
    return split_of(
        where, made, None if test is None else _dataset(f"{where}: test", test, label, names, column), classes
    )


def _open(name: str, data_dir: Path | None) -> dict[str, Any]:
    """Return the splits by name."""
    import datasets

    folder = _folder(name, data_dir)
    # The libraries' bars and the log of their repeated attempts are muted; errors come as exceptions.
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        if folder is not None:
            found = datasets.load_from_disk(str(folder))
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


def _folder(name: str, data_dir: Path | None) -> Path | None:
    roots = [Path(root) for root in (data_dir, os.environ.get("FEDKT_DATA"), "data") if root]
    for place in [Path(name), *(root / name for root in roots)]:
        if any(
            (place / marker).is_file() for marker in ("dataset_dict.json", "dataset_info.json", "state.json")
        ):
            return place
    return None


def _label_column(where: str, table: Any) -> str:
    from datasets import ClassLabel

    typed = [name for name, feature in table.features.items() if isinstance(feature, ClassLabel)]
    named = [name for name in _LABELS if name in table.features]
    if not typed and not named:
        raise InputError(
            f"{where} has the columns {', '.join(table.column_names)}; its labels must "
            "be of type ClassLabel or in a "
            f"column named one of {', '.join(_LABELS)}."
        )
    return str((typed or named)[0])


def _label_names(train: Any, label: str) -> list[str] | None:
    """Return the names of textual labels in order, or None where labels are numbers."""
    values = train[:1][label]
    if not isinstance(values[0], str):
        return None
    return sorted(train.unique(label))


def _labels_known(table: Any, label: str) -> bool:
    if label not in table.column_names:
        return False
    values = _column(table, label)
    return values.dtype.kind not in "iuf" or bool(values.size and values.min() >= 0)


def _column(table: Any, name: str) -> NDArray[Any]:
    return np.asarray(table.select_columns([name]).with_format("numpy")[:][name])


def _dataset(where: str, table: Any, label: str, names: list[str] | None, column: str | None) -> Dataset:
    y = _column(table, label)
    if names is not None:
        unknown = np.setdiff1d(y, names)
        if len(unknown):
            raise InputError(f"{where} holds the label '{unknown[0]}', which no training row has.")
        y = np.searchsorted(np.array(names), y)
    ids = None if column is None or column not in table.column_names else _column(table, column)
    return dataset_of(
        where, _rows(where, table, [c for c in table.column_names if c not in (label, column)]), y, ids=ids
    )


def _rows(where: str, table: Any, columns: list[str]) -> Any:
    from datasets import Image, Value

    features = table.features
    images = [name for name in columns if isinstance(features[name], Image)]
    if images:
        column = table.select_columns([images[0]]).with_format(None)
        return stack(f"{where}: column '{images[0]}'", (row[images[0]] for row in column))
    texts = [
        name for name in columns if isinstance(features[name], Value) and "string" in features[name].dtype
    ]
    named = [name for name in _TEXTS if name in texts]
    if named or len(texts) == 1:
        return _column(table, (named or texts)[0])
    numbers = [_column(table, name) for name in columns if name not in texts]
    numbers = [values for values in numbers if values.dtype.kind in "biuf" and values.ndim in (1, 2, 3, 4)]
    if len(numbers) == 1 and numbers[0].ndim > 1:
        return numbers[0]  # pixels, token ids or a vector per row
    table_columns = [values.reshape(len(values), -1) for values in numbers if values.ndim <= 2]
    if not table_columns:
        raise InputError(
            f"{where} has the columns {', '.join(table.column_names)}; one must hold "
            "images, texts or numbers."
        )
    return np.concatenate(table_columns, axis=1).astype(np.float32)
