"""Features that somebody else computed, such as embeddings: tables without ranges or units."""

from typing import Annotated

from pydantic import Field

from fedkt.data.made.draws import Draws, Reals
from fedkt.data.made.public import Public, generator


@generator("tabular")
def gaussian(
    public: Public,
    n: int,
    draws: Draws,
    *,
    mean: float = 0.0,
    deviation: Annotated[float, Field(gt=0)] = 1.0,
) -> Reals:
    """Independent features of one mean and deviation, nearly normal. For tables in units ``schema`` is
    better."""
    return mean + deviation * draws.normal(n, *public.shape)
