"""Columns of Arrow tables as arrays: nothing passes through float32, and blanks stay blank."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.cells import float_type


def column_of(table: Any, name: str) -> Any:
    """Return a column of a Hugging Face table as an Arrow array."""
    return table.select_columns([name]).with_format("arrow")[:].column(name).combine_chunks()


def numbers_in(values: Any) -> NDArray[Any] | None:
    """Return numbers [n], float32 where that holds the type exactly, else float64; NaN where blank.

    None where these are no numbers. A column that is blank in all rows is NaN.
    """
    import pyarrow as pa

    kind = values.type
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        return None
    small = not pa.types.is_decimal(kind) and not pa.types.is_null(kind)
    wanted = float_type(np.dtype(kind.to_pandas_dtype())) if small else np.float64
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan, np.float32)
    made = values.cast(pa.from_numpy_dtype(wanted), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(made, dtype=wanted)


def label_of(values: Any) -> NDArray[Any]:
    """Return a column's values [n] as they are: numbers, or objects where some are texts or blank."""
    import pyarrow as pa

    kind = values.type
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if plain and values.null_count == 0:
        return np.asarray(values.to_numpy(zero_copy_only=False))
    made = np.empty(len(values), object)
    made[:] = values.to_pylist()
    return made


def ids_of(values: Any, names: Sequence[str] | None) -> NDArray[Any]:
    """Return natural ids as they are; ``names``: what numbers stand for."""
    made = label_of(values)
    if names is None or made.dtype == object:
        return made
    return np.array([names[number] if number >= 0 else None for number in made], object)


def lists_of(values: Any) -> NDArray[Any] | None:
    """Return lists of numbers of one length as an array [n, k]; None where they are anything else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if (
        isinstance(values, pa.ExtensionArray)
        or not hasattr(values, "flatten")
        or pa.types.is_struct(values.type)
    ):
        return None
    if values.null_count or not len(values):
        return None
    lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
    flat = values.flatten()
    if (lengths != lengths[0]).any() or (flat.null_count and pa.types.is_nested(flat.type)):
        return None
    if pa.types.is_integer(flat.type) and flat.null_count == 0:
        made: NDArray[Any] | None = flat.to_numpy()
    else:
        made = numbers_in(flat)
    return None if made is None else made.reshape(len(values), int(lengths[0]))
