"""Rows of a simulated client as files that its site reads back as the same rows, by the scenario's rules.

What a simulation made of rows is undone: a column per category is one column again, numbers are in their
units, a site's classes have its own names, and its table has its own columns alone. A table whose scenario
speaks of columns of labels or of categories becomes a folder of Hugging Face's ``datasets``, links one of
triples without their corruptions; anything else an npz file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedkt.data.columns.choices import Choices
from fedkt.data.columns.tokens import text_of
from fedkt.data.graph.triples import write_triples
from fedkt.data.graph.vocabulary import Triples
from fedkt.data.sets.dataset import Dataset
from fedkt.errors import InputError
from fedkt.tasks import task_of
from fedkt.tasks.links import TRUE

if TYPE_CHECKING:
    from fedkt.scenario import Data

LABEL = "label"
"""The column of labels where the scenario does not name it."""


class OwnRows:
    """Writes rows of a federation; ``categories``: the values of each of its columns of categories."""

    def __init__(self, data: "Data", categories: Mapping[str, Sequence[str]]) -> None:
        self.data = data
        self.categories = categories
        self.choices = Choices.of(data)
        self.task = task_of(data)
        self.by_name = bool(self.choices.label or self.choices.categories)
        """Whether the scenario speaks of columns that an npz file has not."""

    def save(self, path: Path, train: Dataset, test: Dataset | None = None, site: str | None = None) -> str:
        """Write rows and perhaps test rows as ``path`` without an ending; return their name in a site's file.

        ``site``: whose they are; None: rows that all have in common. Raises InputError where rows that are
        no table belong to columns by name.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {"train": train, "test": test}
        held = {name: part for name, part in parts.items() if part is not None and len(part)}
        if train.graph is not None:
            write_triples(path, {name: _true(part) for name, part in held.items()}, train.graph)
            return f"triples:{path.name}"
        if not self.by_name:
            arrays: dict[str, Any] = {}
            for name, part in held.items():
                arrays |= self._arrays(name, part, site)
            with open(path.with_suffix(".npz"), "wb") as file:
                np.savez(file, **arrays)
            return f"npz:{path.name}.npz"
        if train.columns is None:
            raise InputError(
                f"rows of kind {train.kind} cannot be written for sites where data.label or data.categories "
                "names columns; only tables can."
            )
        self._write_table(path, held, site)
        return f"hf:{path.name}"

    def _arrays(self, name: str, part: Dataset, site: str | None) -> dict[str, Any]:
        """Return a part's arrays as an npz file has them."""
        found: dict[str, Any] = {}
        if part.kind == "sparse":
            for piece in ("data", "indices", "indptr"):
                found[f"x_{name}_{piece}"] = getattr(part.x, piece)
            found[f"x_{name}_shape"] = np.array(part.x.shape)
        else:
            found[f"x_{name}"] = np.array(list(map(text_of, part.x))) if self.choices.passage else part.x
        if self.task.labelled:
            found[f"y_{name}"] = self._targets(part)
        if part.columns is not None:
            found["columns"] = np.array(part.columns)
        if part.label_names is not None and part.y.min() >= 0:
            found["label_names"] = np.array(self._names(part, site))
        return found

    def _targets(self, part: Dataset) -> Any:
        """Return targets as the scenario reads them."""
        if part.y.dtype.kind == "f":
            given = self.task.in_units(torch.from_numpy(part.y).double()).numpy()
            ranges = np.array(self.choices.ranges or [(-np.inf, np.inf)])
            return given.clip(ranges[:, 0], ranges[:, 1])
        labels = np.maximum(part.y, 0)  # the transfer set has none
        if self.data.target is None:
            return labels
        # The scenario's rule is applied to the file again, and has to make the same classes.
        return labels * (int(float(self.data.target.partition(">")[2])) + 1)

    def _names(self, part: Dataset, site: str | None) -> list[str]:
        """Return the names of classes as a site calls them."""
        own = {common: name for name, common in self.data.label_maps.get(site or "", {}).items()}
        return [own.get(name, name) for name in part.label_names or ()]

    def _write_table(self, path: Path, parts: dict[str, Dataset], site: str | None) -> None:
        from datasets import ClassLabel, DatasetDict, are_progress_bars_disabled
        from datasets import Dataset as Table
        from datasets.utils.logging import disable_progress_bar, enable_progress_bar

        shown = not are_progress_bars_disabled()
        disable_progress_bar()
        try:
            tables = {}
            for name, part in parts.items():
                table = Table.from_dict(self._columns(part, site))
                if part.label_names is not None and part.y.ndim == 1 and part.y.min() >= 0:
                    table = table.cast_column(
                        str(self.choices.label or LABEL), ClassLabel(names=self._names(part, site))
                    )
                tables[name] = table
            DatasetDict(tables).save_to_disk(str(path))
        finally:
            if shown:
                enable_progress_bar()

    def _columns(self, part: Dataset, site: str | None) -> dict[str, Any]:
        """Return a table's columns by name: those that a site has, and the targets where there are any."""
        mine = None if site is None else self.choices.at(site).columns
        found, at = dict[str, Any](), 0
        assert part.columns is not None
        while at < len(part.columns):
            name, _, value = part.columns[at].rpartition("=")
            values = self.categories.get(name, ())
            if values and value == values[0]:
                block = part.x[:, at : at + len(values)]
                texts = np.array([*values, None], object)
                found[name] = texts[np.where(block.any(1), block.argmax(1), len(values))].tolist()
                at += len(values)
                continue
            found[part.columns[at]] = part.x[:, at]
            at += 1
        found = {name: column for name, column in found.items() if mine is None or name in mine}
        targets = self._targets(part)
        if targets.ndim == 2:
            return found | dict(zip(self.choices.label_columns, targets.T, strict=True))
        return found if part.y.min() < 0 else found | {str(self.choices.label or LABEL): targets}


def _true(part: Dataset) -> Triples:
    """Return the links of a part, each once, or all candidates of one that has no targets."""
    if part.y.ndim == 1:
        return np.asarray(part.x)
    links = part.x[part.y[:, TRUE] == 1]
    first = np.unique(links, axis=0, return_index=True)[1]
    return np.asarray(links[np.sort(first)])
