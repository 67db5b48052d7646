"""Tables from what anybody may know of their columns: ranges, categories, how often a value is missing.

Rows are in the units of the data and go through each party's own preparation, so that one row means the same
patient everywhere. Columns are drawn one by one: real rows whose columns were shuffled apart lost nothing
either.
"""

import numpy as np

from fedkt.data.made.draws import Draws, Reals
from fedkt.data.made.public import Public, Range, generator
from fedkt.errors import InputError


@generator("tabular")
def schema(public: Public, n: int, draws: Draws) -> Reals:
    """Each column by itself: uniform over its range, or one of its values, or missing (``data.schema``)."""
    if public.ranges is None:
        raise InputError(
            "data.transfer.from is 'made:schema', but data.schema is not set; it must give each column's "
            "range, "
            "such as 'schema: {age: [20, 90], sex: {values: [0, 1]}}'."
        )
    return np.stack([_column(known, n, draws) for known in public.ranges], axis=1)


def _column(known: Range, n: int, draws: Draws) -> Reals:
    at = draws.unit(n)
    if known.values:
        values = np.asarray(known.values)
        if known.weights:
            until = [0.0]
            for weight in known.weights:
                until.append(until[-1] + weight)
            chosen = np.searchsorted(np.asarray(until[1:]), at * until[-1], side="right")
            column = values[np.minimum(chosen, len(values) - 1)]
        else:
            column = values[(at * len(values)).astype(np.int64)]
    elif known.whole:
        column = known.low + np.floor(at * (known.high - known.low + 1.0))
    else:
        column = known.low + at * (known.high - known.low)
    return np.where(draws.unit(n) < known.missing, np.nan, column)
