"""The parts of a scenario about what rows hold: columns, categories, images."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from fedkt.scenario.about_images import NORMALISE_TAGS, Normalise
from fedkt.scenario.settings import NotNegative, Settings, Text, say, written


class Column(Settings):
    """What anybody may know of a column of a table, in the units of the data; ``[low, high]`` for short.

    >>> Column.model_validate([20, 90]).high
    90.0
    """

    low: float = 0.0
    """Smallest value."""
    high: float = 1.0
    """Largest value."""
    values: list[float] = Field(default_factory=list, examples=[[0, 1]])
    """The only values there are, in place of a range."""
    weights: list[NotNegative] = Field(default_factory=list, examples=[[3, 1]])
    """How often each of ``values`` comes, relative to the others; empty: all alike."""
    whole: bool = False
    """Whether only whole numbers occur."""
    missing: float = Field(0.0, ge=0, lt=1)
    """The share of rows that lack it."""

    @model_validator(mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 2:
            return {"low": value[0], "high": value[1]}
        return value

    @model_validator(mode="after")
    def _is_one(self) -> "Column":
        if self.low >= self.high:
            raise say(f"has low {self.low:g} but high {self.high:g}; low must be below high")
        if self.values and (self.low, self.high) != (0, 1):
            raise say("has values and a range; it must have one of them")
        if self.weights and (len(self.weights) != len(self.values) or not sum(self.weights)):
            raise say(f"has {len(self.values)} values but {len(self.weights)} weights; they must match")
        return self


LABEL_TAGS = ("labels-by-site", "labels-of-all")
COLUMN_TAGS = ("columns-of-all", "columns-by-site")
CATEGORY_TAGS = ("categories-by-rows", "categories-by-name")
"""Pydantic puts these into the place of an error; they are no keys."""
Categories = Annotated[
    Annotated[Literal["transfer", "train"], Tag(CATEGORY_TAGS[0])]
    | Annotated[list[Annotated[str, BeforeValidator(written)]], Field(min_length=1), Tag(CATEGORY_TAGS[1])],
    Discriminator(lambda value: CATEGORY_TAGS[not isinstance(value, str)]),
]
"""The values of a column, or which rows say them."""
Some = Annotated[list[Text], Field(min_length=1)]
ColumnsUsed = Annotated[
    Annotated[list[Text], Field(min_length=1), Tag(COLUMN_TAGS[0])]
    | Annotated[
        dict[Text, Annotated[list[Text], Field(min_length=1)]], Field(min_length=1), Tag(COLUMN_TAGS[1])
    ],
    Discriminator(lambda value: COLUMN_TAGS[isinstance(value, dict)]),
]
"""Columns for all, or a list for each site."""
Scale = Annotated[
    Annotated[Literal["transfer", "none"], Tag(NORMALISE_TAGS[0])]
    | Annotated[Normalise, Tag(NORMALISE_TAGS[1])],
    Discriminator(lambda value: NORMALISE_TAGS[not isinstance(value, str)]),
]
"""What images are scaled by."""
ClassNames = Annotated[
    Annotated[Literal["per-site"], Tag(LABEL_TAGS[0])]
    | Annotated[list[Text], Field(min_length=2), Tag(LABEL_TAGS[1])],
    Discriminator(lambda value: LABEL_TAGS[not isinstance(value, str)]),
]
"""The names of all classes, or that each site has its own."""
