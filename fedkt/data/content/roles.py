"""Rows in two roles: what is private, public, asked about or tested on must not be the same rows.

Roles are compared by the content of rows, whatever the data sets are called. Where two data sets share rows,
that is refused unless ``data.overlap`` is ``report``; where one data set holds a row twice itself, it is
reported: nobody but its maker can know whether that is meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.content.same_rows import Hashes, occurring, row_hashes, without_content
from fedkt.data.sets.dataset import Dataset
from fedkt.data.sets.preprocess import fit_raw

if TYPE_CHECKING:
    from fedkt.scenario import Image

HEAD = 64
"""Rows that are compared before all are."""


@dataclass(frozen=True)
class Role:
    """Rows and what they are for.

    ``where``: the setting that names them; ``what``: their name in a sentence; ``source``: equal for rows of
    one data set.
    """

    where: str
    what: str
    rows: Dataset
    source: Any


@dataclass
class Shared:
    """What two roles share: ``problems`` where two data sets do, ``notes`` where one does or it is meant."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, role: Role, other: str, count: int, *, meant: bool, remedy: str) -> None:
        """Add that ``count`` rows of a role are ``other`` ones, too."""
        told = f"{count} of the {len(role.rows)} {role.what} of {role.where} are {other} too"
        if meant:
            self.notes.append(f"{told} (same values).")
        else:
            self.problems.append(f"{told}, by their values; {remedy}, or data.overlap be 'report'.")


def compare(
    pool: Dataset,
    private: NDArray[np.int64],
    tests: Sequence[Role],
    common: Sequence[Role],
    *,
    source: Any,
    image: "Image | None",
    meant: bool,
    joined: bool = False,
) -> Shared:
    """Compare test and common (transfer, public) rows with private rows, and common rows with test rows.

    ``private``: rows of ``pool`` that clients train on, which come from ``source``; ``meant``: whether
    sharing is to be reported only; ``joined``: whether ``pool`` was joined of a data set per domain.
    """
    found = Shared()
    among = np.zeros(len(pool), bool)
    among[private] = True
    roles = [*tests, *common]
    formed = [_form(pool, role.rows, image) for role in roles]
    for group in _groups(formed):
        pooled = formed[group[0]][0]
        hashes, held, own = occurring([formed[i][1] for i in group], pooled, among)
        full = own != without_content(pooled)
        held, own = held[full], own[full]
        for i, part in zip(group, hashes, strict=True):
            role, count, foreign = roles[i], int(np.isin(part, own).sum()), 0
            same = role.source == source
            if count and same and joined and role.rows.domain is not None and pool.domain is not None:
                foreign = count - _at_home(role.rows.domain, part, pool.domain[held], own)
            if count:
                remedy = "their rows must be others"
                if role in tests and not same:
                    remedy = "it must name other rows, or be left out for 20 % to be held out"
                allowed = meant or (same and not foreign)
                found.add(role, "training rows", foreign or count, meant=allowed, remedy=remedy)
    for role in common:
        for test in tests:
            pooled, part = _form(test.rows, role.rows, image)
            if not rows_of(pooled):
                continue
            hashes, _, own = occurring([part], pooled, np.ones(rows_of(pooled), bool))
            own = own[own != without_content(pooled)]
            if count := int(np.isin(hashes[0], own).sum()):
                other = f"test rows of {test.where}"
                allowed = meant or role.source == test.source
                found.add(role, other, count, meant=allowed, remedy="their rows must be others")
    _among_common(found, common, image)
    return found


def _among_common(found: Shared, common: Sequence[Role], image: "Image | None") -> None:
    """Note which public rows are transfer rows of another data set; methods may want that."""
    for number, role in enumerate(common):
        for other in common[:number]:
            held, part = _form(other.rows, role.rows, image)
            if role.source == other.source or not rows_of(held):
                continue
            known = row_hashes(held)
            count = int(np.isin(row_hashes(part), known[known != without_content(held)]).sum())
            if count:
                found.add(role, f"{other.what} of {other.where}", count, meant=True, remedy="")


def same_source(one: Dataset, other: Dataset) -> bool:
    """Say whether two data sets hold the same rows in the same order."""
    if one is other:
        return True
    if one.kind != other.kind or one.x.shape != other.x.shape:
        return False
    head = np.arange(min(HEAD, len(one)))
    a, b = _form(one.take(head), other.take(head), None)
    if not np.array_equal(row_hashes(a), row_hashes(b)):
        return False
    a, b = _form(one, other, None)
    if one.kind != "sparse":
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    return bool(np.array_equal(row_hashes(a), row_hashes(b)))


def sources_of(named: Mapping[str, Dataset]) -> dict[str, str]:
    """Return for each setting the first one that names the same data set, however it is spelt."""
    found: dict[str, str] = {}
    for where, rows in named.items():
        first = next((w for w in found if found[w] == w and same_source(named[w], rows)), where)
        found[where] = first
    return found


def _at_home(domains: Any, hashes: Hashes, held: Any, own: Hashes) -> int:
    """Return how many rows occur among those of their own domain."""
    names, code = np.unique(np.concatenate([domains, held]), return_inverse=True)
    mark = np.arange(len(names), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return int(np.isin(hashes ^ mark[code[: len(domains)]], own ^ mark[code[len(domains) :]]).sum())


def _groups(formed: Sequence[tuple[Any, Any]]) -> list[list[int]]:
    """Return which comparisons are with the same array, so that it is looked through once."""
    by_array: dict[int, list[int]] = {}
    for number, (pooled, part) in enumerate(formed):
        if rows_of(part) and rows_of(pooled):
            by_array.setdefault(id(pooled), []).append(number)
    return list(by_array.values())


def rows_of(x: Any) -> int:
    """Return the number of rows, which a sparse matrix does not give as its length."""
    return int(x.shape[0])


def _form(pool: Dataset, part: Dataset, image: "Image | None") -> tuple[Any, Any]:
    """Return raw rows of both in a form in which equal rows have equal values; none where there is none."""
    a, b = pool.x, part.x
    if pool.kind != part.kind:
        return a[:0], b[:0]
    if pool.kind != "image":
        if pool.shape != part.shape:
            return a[:0], b[:0]
        if pool.kind == "tabular" and a.dtype != b.dtype:  # one file in two types: as the narrower holds it
            return a.astype(np.float32, copy=False), b.astype(np.float32, copy=False)
        return a, b
    if a.shape[1:] != b.shape[1:]:
        if image is None:
            return a[:0], b[:0]
        wanted = (image.channels, image.size, image.size)
        a = a if a.shape[1:] == wanted else fit_raw(a, image.size, image.channels)
        b = b if b.shape[1:] == wanted else fit_raw(b, image.size, image.channels)
    if a.dtype != b.dtype:
        a, b = _bytes(a), _bytes(b)
    return a, b


def _bytes(x: NDArray[Any]) -> NDArray[np.uint8]:
    return x if x.dtype == np.uint8 else np.rint(x * np.float32(255)).astype(np.uint8)
