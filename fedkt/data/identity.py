"""Whether data are still those of before: hashes of everything that a run uses, and of one party's rows."""

import hashlib
from collections.abc import Mapping

import numpy as np

from fedkt.data.content.same_rows import row_hashes
from fedkt.data.content.transfer_set import transfer_hash, update
from fedkt.data.federation import Federation, Shard
from fedkt.data.sets.dataset import Dataset

WORDS = {
    "rows": "its private rows (data.dataset)",
    "test": "its test rows",
    "transfer": "its transfer set",
    "public": "its public rows",
}
_TAG = b"fedkt data 1\n"


def data_hashes(federation: Federation) -> dict[str, str]:
    """Return the SHA-256, in hexadecimal, of the rows that a run uses, by what they are for.

    ``rows``: all private rows with labels and names, of columns and classes too, those that were held out
    included; ``test`` and
    ``public``: with labels; ``transfer``: of its rows alone, its hash. What is not there is left out.
    """
    found = {"rows": _hash(federation.pool)}
    tests = [part for part in (federation.test, federation.own_test) if part is not None]
    if tests:
        found["test"] = _hash(*(tests[:1] if tests[0] is tests[-1] else tests))
    if federation.transfer_hash is not None:
        found["transfer"] = federation.transfer_hash
    if federation.public is not None:
        found["public"] = _hash(federation.public)
    return found


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return which of the data are others now, in words."""
    return [words for key, words in WORDS.items() if before.get(key) != now.get(key)]


def party_hash(federation: Federation, shard: Shard) -> str:
    """Return the SHA-256 of a party's rows, whatever their order, their labels and what is held out of them.

    Where rows are dealt by domain or natural id, and at a site, these are all rows of that name, so that they
    are the same for every seed; else those that were dealt to the client.
    """
    pool = federation.pool
    named = [names for names in (pool.ids, pool.domain) if names is not None and shard.domain is not None]
    mine = next((found for names in named if len(found := np.flatnonzero(names == shard.domain))), None)
    if mine is None:
        dealt = np.concatenate([shard.rows, shard.validation])
        mine = np.arange(len(pool)) if shard.domain is not None else dealt
    return hashlib.sha256(_TAG + np.sort(row_hashes(pool.x[mine])).tobytes()).hexdigest()


def parties_hash(federation: Federation) -> str:
    """Return the SHA-256 of all parties' rows."""
    each = sorted(party_hash(federation, shard) for shard in federation.shards)
    return hashlib.sha256(_TAG + "\n".join(each).encode()).hexdigest()


def _hash(*parts: Dataset) -> str:
    digest = hashlib.sha256(_TAG)
    for part in parts:
        digest.update(transfer_hash(part.x).encode())
        update(digest, part.y)
        for names in (part.domain, part.ids, part.columns, part.label_names):
            digest.update(b"-\n" if names is None else "\n".join(map(str, names)).encode() + b"\n")
    return digest.hexdigest()
