"""Which rows of one array are rows of another, by content: fast where few are, and right where many are.

A row is known by a 64-bit hash of all its values (two different rows among n x m pairs share one with odds of
n m / 2^64: below one in ten million for a million rows each). It is made of those rows alone that pass a
sieve before, which looks at the few columns that differ most.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]

SAMPLE = 512
"""Rows that tell which columns differ most."""
COLUMNS = 4
"""Most columns that the sieve looks at."""
BITS = 20
"""The sieve has 2^BITS holes."""
_BLOCK = 1 << 16
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MORE = np.uint64(0xBF58476D1CE4E5B9)
_LAST = np.uint64(0x94D049BB133111EB)
_SHIFT = np.uint64(32)


def row_hashes(x: Any) -> Hashes:
    """Return a 64-bit hash of each row of a dense array [n, ...] or a SciPy CSR matrix.

    Equal values have equal hashes: 0.0 and -0.0, any two NaN, sparse rows however they are stored.
    """
    if hasattr(x, "tocsr"):
        return _sparse_hashes(x)
    found = np.empty(len(x), np.uint64)
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        words = _words(block.reshape(len(block), -1))
        total = np.full(len(block), words.shape[1], np.uint64)
        for column in words.T:
            total = _mixed((total * _ODD) ^ column)
        found[start : start + len(block)] = total
    return found


def without_content(x: Any) -> Hashes:
    """Return the hash of a row of nothing but zeros: an empty text, a black picture. It is nobody's."""
    if hasattr(x, "tocsr"):
        return row_hashes(type(x)((1, x.shape[1]), dtype=np.float32))
    return row_hashes(np.zeros((1, *x.shape[1:]), x.dtype))


def occurring(parts: Sequence[Any], x: Any, among: Mask) -> tuple[list[Hashes], NDArray[np.int64], Hashes]:
    """Sieve: return hashes of each part's rows, and rows of ``x`` that may be among them with their hashes.

    ``parts`` and ``x``: arrays of one kind, type and row shape, or CSR matrices of one width; ``among``
    [rows of x]: which of them count. A row of a part occurs in x exactly if its hash is among those returned;
    a row that cannot occur may have the hash 0 instead.
    """
    if hasattr(x, "tocsr"):
        rows = np.flatnonzero(among)
        return [row_hashes(part) for part in parts], rows, row_hashes(x[rows])
    flat = [part.reshape(len(part), -1) for part in parts]
    whole = x.reshape(len(x), -1)
    order = _telling(np.concatenate([part[:SAMPLE] for part in flat]))
    # A column is read as it lies first; only of rows that pass are more columns picked out.
    likely, rows = [np.arange(len(part)) for part in flat], np.arange(len(whole))
    for columns in (order[:1], order[1:]):
        keys = [_key(part, own, columns) for part, own in zip(flat, likely, strict=True)]
        held = _key(whole, rows, columns)
        passed = np.flatnonzero(_table(keys).take(held))
        passed = passed[among[rows[passed]]]
        rows, table = rows[passed], _table([held[passed]])
        likely = [own[table[key]] for own, key in zip(likely, keys, strict=True)]
    found = []
    for part, own in zip(parts, likely, strict=True):
        hashes = np.zeros(len(part), np.uint64)
        hashes[own] = row_hashes(part[own])
        found.append(hashes)
    return found, rows, row_hashes(x[rows])


def _table(keys: Sequence[NDArray[np.uint32]]) -> Mask:
    """Return which keys there are, [2^BITS]."""
    table = np.zeros(1 << BITS, bool)
    for key in keys:
        table[key] = True
    return table


def _telling(sample: NDArray[Any]) -> list[int]:
    """Return the columns of a sample that tell its rows apart best, the best one first."""
    ordered = np.sort(sample, axis=0)
    different = (ordered[1:] != ordered[:-1]).sum(0)
    return [int(c) for c in np.argsort(-different, kind="stable")[:COLUMNS]]


def _key(x: NDArray[Any], rows: NDArray[np.int64], columns: Sequence[int]) -> NDArray[np.uint32]:
    """Return a number below 2^BITS for each of these rows, which follows from these columns alone."""
    total = np.zeros(len(rows), np.uint32)
    for column in columns:
        plain = _plain(x[:, column] if len(rows) == len(x) else x[rows, column])
        size = plain.dtype.itemsize // 4
        words = plain.view(np.uint32).reshape(len(rows), size).T if size else [plain]
        for word in words:
            total ^= word.astype(np.uint32, copy=False)
            total *= np.uint32(0x9E3779B1)
    total ^= total >> np.uint32(16)
    total *= np.uint32(0x85EBCA77)
    total >>= np.uint32(32 - BITS)
    return total


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in which equal values have equal bytes."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind != "f":
        return values
    values = values + values.dtype.type(0)  # -0.0 becomes 0.0
    values[np.isnan(values)] = np.nan
    return values


def _words(x: NDArray[Any]) -> Hashes:
    """Return rows [n,d] as 64-bit words [n,w], filled up with zeros."""
    plain = _plain(x).view(np.uint8).reshape(len(x), x.shape[1] * x.dtype.itemsize)
    short = -plain.shape[1] % 8
    if short:
        plain = np.concatenate([plain, np.zeros((len(x), short), np.uint8)], 1)
    return np.ascontiguousarray(plain).view(np.uint64)


def _mixed(h: Hashes) -> Hashes:
    """Return the finaliser of SplitMix64 (Steele et al. 2014): a bijection that changes all bits."""
    h = (h ^ (h >> np.uint64(30))) * _MORE
    h = (h ^ (h >> np.uint64(27))) * _LAST
    mixed: Hashes = h ^ (h >> np.uint64(31))
    return mixed


def _sparse_hashes(x: Any) -> Hashes:
    """Return the sum over a row's entries of a hash of place and value, mixed once more."""
    matrix = x.tocsr(copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    values = _plain(matrix.data.astype(np.float32)).view(np.uint32).astype(np.uint64)
    entries = _mixed((matrix.indices.astype(np.uint64) << _SHIFT | values) + _ODD)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(entries, dtype=np.uint64)])
    totals = sums[matrix.indptr[1:]] - sums[matrix.indptr[:-1]]
    return _mixed(totals + np.diff(matrix.indptr).astype(np.uint64) * _ODD)
