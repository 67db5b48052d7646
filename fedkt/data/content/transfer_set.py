"""The identity of a transfer set: all parties must hold the same rows in the same order."""

import hashlib
from typing import Any

import numpy as np

_TAG = b"fedkt transfer set 1\n"


def transfer_hash(rows: Any) -> str:
    """Return the SHA-256, in hexadecimal, of raw rows in order.

    ``rows``: a dense array or a SciPy CSR matrix, as in ``Dataset.x``. Hashed are a format tag, dtype,
    shape, and the little-endian bytes in C order; of sparse rows, in canonical form (columns sorted,
    duplicates summed, explicit zeros dropped), row pointers, columns and values. Labels and preprocessing
    are left out.
    """
    digest = hashlib.sha256(_TAG)
    if hasattr(rows, "tocsr"):
        matrix = rows.tocsr(copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        matrix.sort_indices()
        digest.update(f"csr {matrix.shape[0]} {matrix.shape[1]}\n".encode())
        for piece in (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data):
            update(digest, piece)
    else:
        digest.update(b"dense\n")
        update(digest, np.asarray(rows))
    return digest.hexdigest()


def update(digest: Any, array: Any) -> None:
    """Add an array to a digest: its type, its shape and its little-endian bytes in C order."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest.update(f"{little.dtype.str} {' '.join(str(n) for n in array.shape)}\n".encode())
    digest.update(little.data.cast("B") if little.size else b"")
