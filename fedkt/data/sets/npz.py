"""Data sets in ``npz`` files, read without pickle.

A file holds one data set, ``x_train y_train`` and optionally ``x_test y_test``, or several domains, each
``x_<domain> y_<domain>`` or ``x_<domain>_train y_<domain>_train`` and optionally ``..._test``. Where there
are no test rows, a seeded 20 % is held out when a federation is built. Wherever an ``x_...`` may stand, the
four pieces of a CSR matrix may stand instead: ``x_..._data x_..._indices x_..._indptr x_..._shape``. Natural
ids are ``<column>_train`` and so on. ``columns`` (or ``feature_names``) may name the columns of a table,
and ``label_names`` the classes in the order of their numbers; labels may be texts. Other arrays are not read.

``npz:FILE#DOMAIN`` is one domain of a file alone: a mapping of such specifications leaves a domain out, and
``data.test`` and ``data.transfer.from`` can name the one that was left out.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt.data.columns.cells import texts_of
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.named import LeftOut
from fedkt.data.sets.dataset import AS_READ, Dataset, Split, dataset_of
from fedkt.data.sets.joining import join_domains, split_of
from fedkt.errors import InputError
from fedkt.files import data_places
from fedkt.registry import did_you_mean

if TYPE_CHECKING:
    from fedkt.scenario import Image

_PIECES = ("data", "indices", "indptr", "shape")
_NAMES = {"columns": ("columns", "feature_names"), "labels": ("label_names",)}
"""What arrays of names are called."""


def find_file(name: str, data_dir: Path | None) -> Path:
    """Return the path of a data file: below ``data_dir``, ``$FEDKT_DATA``, ``./data``, or here."""
    places = data_places(name, data_dir)
    for place in places:
        if place.is_file():
            return place
    looked = " or ".join(map(str, places))
    hint = "" if os.environ.get("FEDKT_DATA") else " ($FEDKT_DATA is not set)"
    raise InputError(
        f"data file '{name}' was not found as {looked}{hint}; --data-dir or FEDKT_DATA must name its folder."
    )


def load_npz(
    name: str, data_dir: Path | None, image: "Image | None", column: str | None, choices: Choices = AS_READ
) -> Split:
    """Load a file, or one domain of it (``FILE#DOMAIN``); raises InputError with all its problems."""
    file_name, _, domain = name.partition("#")
    path = find_file(file_name, data_dir)
    where = f"npz:{file_name}"
    try:
        file = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{where} cannot be read as an npz file; it must be one written by numpy.savez."
        ) from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise InputError(f"{where} holds a single array; it must be an npz file with x_train and y_train.")
    with file:
        reader = _Reader(where, file, column, choices)
        return reader.one(domain) if domain else reader.split(image)


class _Reader:
    """One open file."""

    def __init__(self, where: str, file: Mapping[str, Any], column: str | None, choices: Choices) -> None:
        self.where = where
        self.file = file
        self.column = column
        self.choices = choices
        self.seen: set[str] = set()
        self.names = {what: self._names(called) for what, called in _NAMES.items()}
        self.parts = sorted({self._part_of(key) for key in file if key.startswith("x_")})

    def split(self, image: "Image | None") -> Split:
        if any(part in ("train", "test") for part in self.parts):
            found = self._read(["train", *(["test"] if "test" in self.parts else [])])
            return split_of(
                self.where,
                found["train"],
                found.get("test"),
                choices=self.choices,
                left_out=self._unread(),
            )
        if not self.parts:
            held = ", ".join(list(self.file)[:8]) or "nothing"
            raise InputError(
                f"{self.where} holds {held}; it must hold x_train and y_train, or x_<domain> and y_<domain>."
            )
        found = self._read(self.parts)
        trains = self._domains()
        lonely = [p for p in self.parts if p.endswith("_test") and p.removesuffix("_test") not in trains]
        if lonely:
            raise InputError(
                *(
                    f"{self.where} holds x_{p} without "
                    f"x_{p.removesuffix('_test')}_train; a domain needs training rows."
                    for p in lonely
                )
            )
        splits = {
            domain: split_of(
                f"{self.where}: domain '{domain}'",
                found[part],
                found.get(f"{domain}_test"),
                choices=self.choices,
                left_out=self._unread(),
            )
            for domain, part in trains.items()
        }
        return join_domains(self.where, splits, image, self.choices)

    def one(self, domain: str) -> Split:
        """Return one domain of a file with several; its rows carry no domain's name."""
        trains = {} if "train" in self.parts else self._domains()
        if domain not in trains:
            remedy = did_you_mean(domain, sorted(trains)) if trains else "it holds a single data set."
            raise InputError(f"{self.where} has no domain '{domain}'; {remedy}")
        test = f"{domain}_test" if f"{domain}_test" in self.parts else None
        found = self._read([trains[domain], *([test] if test else [])])
        where = f"{self.where}: domain '{domain}'"
        return split_of(where, found[trains[domain]], found[test] if test else None, choices=self.choices)

    def _domains(self) -> dict[str, str]:
        """Return the part that holds each domain's training rows."""
        return {part.removesuffix("_train"): part for part in self.parts if not part.endswith("_test")}

    def _part_of(self, key: str) -> str:
        """Return ``books_train`` for ``x_books_train`` and for each of its CSR pieces."""
        stem, _, piece = key.removeprefix("x_").rpartition("_")
        return stem if piece in _PIECES and f"x_{stem}_indptr" in self.file else key.removeprefix("x_")

    def _read(self, parts: list[str]) -> dict[str, Dataset]:
        found: dict[str, Dataset] = {}
        problems: list[str] = []
        for part in parts:
            try:
                found[part] = self._dataset(part)
            except InputError as error:
                problems.extend(error.problems)
        if problems:
            raise InputError(*problems)
        return found

    def _dataset(self, part: str) -> Dataset:
        sparse = f"x_{part}_indptr" in self.file
        needed = [f"x_{part}_{piece}" for piece in _PIECES] if sparse else [f"x_{part}"]
        if self.choices.labelled:
            needed.append(f"y_{part}")
        ids = None
        if self.column is not None and (part != "test" or f"{self.column}_test" in self.file):
            ids = f"{self.column}_{part}"
            needed.append(ids)
        missing = [name for name in needed if name not in self.file]
        if missing:
            raise InputError(
                *(
                    f"{self.where} lacks array '{name}'; it must hold it beside the others."
                    for name in missing
                )
            )
        x = self._sparse(part) if sparse else self._array(f"x_{part}")
        labels = self.names["labels"] if self.choices.labelled else None
        return dataset_of(
            f"{self.where}: {part}",
            x,
            self._array(f"y_{part}") if self.choices.labelled else None,
            domain=self._site(part),
            ids=None if ids is None else self._array(ids),
            choices=self.choices,
            label_names=labels,
            columns=self.names["columns"],
        )

    def _site(self, part: str) -> Any:
        """Return whose each row is, where ``data.site`` names arrays that are there."""
        name = f"{self.choices.site}_{part}"
        return self._array(name) if self.choices.site is not None and name in self.file else None

    def _names(self, called: tuple[str, ...]) -> list[str] | None:
        """Return the texts of the first of these arrays that is there, or None."""
        name = next((name for name in called if name in self.file), None)
        if name is None:
            return None
        held = self._array(name)
        if held.ndim != 1 or held.dtype.kind not in "US":
            return None
        names: list[str] = texts_of(f"{self.where}: {name}", held).tolist()
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(f"{self.where}: '{name}' holds '{twice[0]}' more than once; names must differ.")
        return names

    def _unread(self) -> list[LeftOut]:
        """Return the arrays that were not read."""
        return [(name, "not read") for name in self.file if name not in self.seen]

    def _array(self, name: str) -> Any:
        self.seen.add(name)
        try:
            return self.file[name]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise InputError(
                    f"{self.where}: array '{name}' is damaged; the file must be written again."
                ) from error
            raise InputError(
                f"{self.where}: array '{name}' holds pickled objects, which are never loaded; "
                "it must be of numbers or of fixed-width text."
            ) from error
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(
                f"{self.where}: array '{name}' is damaged; the file must be written again."
            ) from error

    def _sparse(self, part: str) -> Any:
        from scipy.sparse import csr_matrix

        data, indices, indptr, shape = (self._array(f"x_{part}_{piece}") for piece in _PIECES)
        try:
            matrix = csr_matrix(
                (data.astype(np.float32), indices.astype(np.int64), indptr.astype(np.int64)),
                shape=tuple(int(n) for n in shape),
            )
            matrix.check_format(full_check=True)
        except (ValueError, TypeError, IndexError) as error:
            raise InputError(f"{self.where}: the pieces of x_{part} are no CSR matrix ({error}).") from error
        return matrix
