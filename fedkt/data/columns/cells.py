"""Single values of columns: what is missing, what is text, what is a number."""

import contextlib
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.errors import InputError


def is_missing(values: Any) -> NDArray[np.bool_]:
    """Return per value [n] whether it is none: masked, None, NaN, NaT or pandas' NA."""
    values = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    none = np.zeros(len(values), bool)
    if isinstance(values, np.ma.MaskedArray):
        none = np.ma.getmaskarray(values).copy()
        values = values.data
    if values.dtype.kind == "f":
        none |= np.isnan(values)
    if values.dtype.kind in "mM":
        none |= np.isnat(values)
    if values.dtype.kind in "OT":
        from pandas import isna

        none |= np.asarray(isna(values.astype(object)), dtype=bool)
    return none


def texts_of(where: str, values: Any) -> NDArray[Any]:
    """Return texts [n] as an array of ``str``; bytes must be UTF-8.

    Raises InputError where a value is missing or no text.
    """
    plain: NDArray[Any] = np.asarray(values)
    if plain.dtype.kind == "U":
        _refuse_surrogates(where, plain)
        return plain
    if plain.dtype.kind == "S":
        with contextlib.suppress(UnicodeDecodeError):
            return np.asarray(np.char.decode(plain, "utf-8"))
    plain = plain.astype(object)
    missing = is_missing(plain)
    if missing.any():
        raise InputError(
            f"{where} has no text in {int(missing.sum())} of {plural(len(plain), 'row')} (first: row "
            f"{int(missing.argmax())}); leave those rows out, or write '' where a text may be empty."
        )
    made = np.empty(len(plain), object)
    for row, value in enumerate(plain):
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{where} holds bytes in row {row} that are not UTF-8 text.") from None
        if not isinstance(value, str):
            raise InputError(
                f"{where} holds a {type(value).__name__} in row {row} among texts; all must be texts."
            )
        made[row] = value
    _refuse_surrogates(where, made)
    return made


def _refuse_surrogates(where: str, texts: NDArray[Any]) -> None:
    """Raise InputError where a text holds half a character, as bytes of another encoding may leave behind."""
    for row, text in enumerate(texts.tolist()):
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise InputError(
                f"{where} holds half a character (a lone surrogate) in row {row}; it must be text that "
                "UTF-8 can write."
            )


BLANK = ("", "nan", "NaN", "None", "NaT", "<NA>", "null", "NULL", "N/A", "n/a", "#N/A")
"""What libraries write, as text, for a value that is missing. ``NA`` may be the name of a region."""


def blank(names: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Say of each name [n] whether it stands for a missing one: only spaces, or a text of BLANK."""
    return np.isin(np.char.strip(names), BLANK)


def names_of(where: str, values: Any) -> NDArray[np.str_]:
    """Return ids or domains [n] as written: whole numbers without a point, all digits kept.

    Raises InputError where a row has none, since it would become a party of its own.
    """
    array = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"{where} has shape {array.shape}; it must have one dimension, a name per row.")
    _refuse_missing(where, is_missing(array))
    plain = np.asarray(array)
    if plain.dtype.kind == "S":
        plain = texts_of(where, plain)
    elif plain.dtype.kind == "f":
        whole = np.all(plain == np.floor(plain)) and np.all(np.abs(plain) < 2**53)
        plain = plain.astype(np.int64) if whole else plain
    elif plain.dtype == object:
        plain = np.array([_written(where, value) for value in plain], dtype=np.str_)
    if plain.dtype.kind in "biuf":  # as wide as the longest, and each written once
        distinct, code = np.unique(plain, return_inverse=True)
        written = np.array([str(value) for value in distinct.tolist()], dtype=np.str_)
        return np.asarray(written[code])
    names: NDArray[np.str_] = plain.astype(np.str_)
    _refuse_surrogates(where, names)
    _refuse_missing(where, blank(names))
    return names


def _refuse_missing(where: str, missing: NDArray[np.bool_]) -> None:
    if missing.any():
        raise InputError(
            f"{where} is missing in {int(missing.sum())} of {plural(len(missing), 'row')} (first: row "
            f"{int(missing.argmax())}); each row must say whose it is, so leave those out or name them."
        )


def _written(where: str, value: Any) -> str:
    if isinstance(value, bytes):
        return str(texts_of(where, [value])[0])
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def numbers_of(values: Any) -> NDArray[Any] | None:
    """Return a column's numbers, float32 where that holds them exactly, else float64; NaN where missing.

    ``values``: an array [n] (masked or not), a tensor, or a column of pandas or polars; decimal numbers are
    numbers. None where it holds none.
    """
    kind = getattr(getattr(values, "dtype", None), "kind", None)
    if kind is not None and kind in "biuf" and not isinstance(getattr(values, "dtype", None), np.dtype):
        values = values.to_numpy(dtype=np.float64, na_value=np.nan)  # pandas' own types
    try:
        array = array_of("", values)
    except InputError:
        return None  # lists of different lengths
    if array.dtype == object:
        missing = is_missing(array)
        if not all(isinstance(v, Real | Decimal | np.bool_) for v in array[~missing]):
            return None
        array = np.array([np.nan if no else v for v, no in zip(array, missing, strict=True)], np.float64)
    if array.dtype.kind not in "biuf":
        return None
    array = array.astype(float_type(array.dtype), copy=False)
    return array.filled(np.nan) if isinstance(array, np.ma.MaskedArray) else array


def array_of(where: str, values: Any) -> NDArray[Any]:
    """Return values as an array, masked where they are.

    A tensor may be on any device, and of a type that NumPy has not: such numbers are float32 then. Raises
    InputError, which begins with ``where``, where rows differ in length.
    """
    if isinstance(values, np.ma.MaskedArray):
        return values
    if hasattr(values, "detach") and hasattr(values, "layout"):
        values = values.detach().cpu().to_dense()
        values = values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values
        return np.asarray(values.resolve_conj().resolve_neg().numpy())
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"{where} in rows that differ in length or form; all must be alike.") from error


def float_type(given: np.dtype[Any]) -> type[np.floating[Any]]:
    """Return float32 where it holds all values of a type of numbers, else float64."""
    small = given.itemsize <= 2 or (given.kind == "f" and given.itemsize <= 4)
    return np.float32 if small else np.float64


def plural(count: int, word: str) -> str:
    """Return e.g. ``1 row``, ``2 rows``."""
    return f"{count} {word}{'' if count == 1 else 's'}"
