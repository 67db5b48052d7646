"""Whose row it is: a domain or natural id per row, none of which may be missing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.errors import InputError

BLANK = ("", "nan", "NaN", "None", "NaT", "<NA>", "null")
"""What libraries write, as text, for a value that is missing."""
SHOWN = 3


def blank(values: Any) -> NDArray[np.bool_]:
    """Say of each value whether it is missing: None, NaN, masked, only spaces, or a text of BLANK."""
    held = (
        np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else np.zeros(len(values), bool)
    )
    plain = np.asarray(values)
    if plain.dtype.kind in "biu":
        return np.asarray(held)
    if plain.dtype.kind == "f":
        return np.asarray(held | np.isnan(plain))
    if plain.dtype.kind in "mM":
        return np.asarray(held | np.isnat(plain))
    texts = np.char.strip(_texts(plain))
    return np.asarray(held | np.isin(texts, BLANK))


def named(where: str, what: str, values: Any) -> NDArray[np.str_]:
    """Return a name per row, as text. Raises InputError, which ``where`` begins, where rows have none.

    ``what``: what the name is, such as ``id`` or ``domain``.
    """
    missing = np.flatnonzero(blank(values))
    if len(missing):
        rows = ", ".join(map(str, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
        raise InputError(
            f"{where}: {len(missing)} of {len(values)} rows have no {what} (rows {rows}, counted from 0); "
            "each must have one, or be left out: a client is made of the rows of one name."
        )
    return _texts(np.asarray(values))


def _texts(values: NDArray[Any]) -> NDArray[np.str_]:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    texts: NDArray[np.str_] = values.astype(str)
    return texts
