"""The parts of a scenario about rows: what they hold, and which of the transfer set are asked for."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from fedkt.scenario.about_images import NORMALISE_TAGS, Normalise
from fedkt.scenario.settings import NotNegative, Settings, Text, Whole, say, written


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
TARGET_TAGS = ("one-column", "several-columns")
"""Pydantic puts these into the place of an error; they are no keys."""
Categories = Annotated[
    Annotated[Literal["transfer", "train"], Tag(CATEGORY_TAGS[0])]
    | Annotated[list[Annotated[str, BeforeValidator(written)]], Field(min_length=1), Tag(CATEGORY_TAGS[1])],
    Discriminator(lambda value: CATEGORY_TAGS[not isinstance(value, str)]),
]
"""The values of a column, or which rows say them."""
Some = Annotated[list[Text], Field(min_length=1)]
LabelColumns = Annotated[
    Annotated[Text, Tag(TARGET_TAGS[0])] | Annotated[Some, Tag(TARGET_TAGS[1])],
    Discriminator(lambda value: TARGET_TAGS[isinstance(value, list)]),
]
"""The column of labels, or one for each label or number of a row."""
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

Utility = Literal[
    "random",
    "disagreement",
    "contested",
    "telling",
    "gap",
    "entropy",
    "margin",
    "sure",
    "changing",
    "rare",
    "dense",
    "census",
    "hard",
]
Mechanism = Literal["top", "sample", "cover", "strata", "domains", "versions"]
MECHANISMS = ("cover", "strata", "domains")
"""Those whose name alone is a policy, with all rows worth the same."""
PolicyName = Utility | Literal["cover", "strata", "domains"]
EXPLORED = 0.2
"""The share of rows by chance where no policy is named; how it was chosen: docs/results/row-policies.md."""
AGELESS = ("random", "dense")
"""Utilities that need nothing that was said of the same rows before."""
POLICY_TAGS = ("policy-by-name", "policy-by-parts")
"""Pydantic puts these into the place of an error; they are no keys."""


class Corruptions(Settings):
    """What is not true, where the rows are true links alone (task links).

    >>> Corruptions(kind="typed").per_link
    8
    """

    kind: Literal["random", "typed", "hard"] = "random"
    """What takes the place of a link's head or tail in training: any entity, one that the client has seen
    there with the relation, or one of a like name."""
    per_link: Whole = 8
    """Corruptions of each private link, drawn once."""
    ranked: Whole | None = Field(None, examples=[100])
    """Entities that each test link is ranked against at either end; null: all."""


class RowPolicy(Settings):
    """What rows are worth, and how they are picked by that.

    >>> RowPolicy(utility="entropy", mechanism="cover").explore
    0.0
    """

    utility: Utility = "random"
    """``random``: all alike; ``disagreement``: how much clients contradict one another; ``contested``:
    which part of all doubt that is; ``telling``: how much
    their answers tell rows apart; ``gap``: how far they are from their teacher; ``entropy``, ``margin``: how
    unsure the newest teacher is; ``sure``: how sure; ``changing``: how much it changed; ``rare``: how seldom
    the row's class is; ``dense``: how near other rows are; ``census``: how many private rows are near, which
    clients count; ``hard``: how far clients are from their mean, where that is sensible."""
    mechanism: Mechanism = "top"
    """``top``: those worth most; ``sample``: by chance, more likely the better; ``cover``: of those worth
    most, unlike ones; ``strata``: the best of each cluster of rows; ``domains``: the best of each set of
    ``audition``, the more the farther clients are from their teacher there; ``versions``: of each way to
    turn, move and enlarge images, the more the more such rows are worth."""
    explore: float = Field(0.0, ge=0, le=1)
    """The share that is picked by chance alone."""

    @property
    def looks(self) -> bool:
        """Whether the server compares the transfer rows themselves with one another."""
        return self.mechanism in ("cover", "strata") or self.utility in ("dense", "census")


MOST_TOKENS = 32
"""Tokens that are named at a place, at most: each is compared with each."""


class Speech(Settings):
    """What a model of text says of a passage: its beliefs about the next byte at some places.

    >>> Speech(top=4).places
    80
    """

    passage: Whole = 320
    """Bytes after which every passage is cut, for all parties alike."""
    top: int = Field(8, ge=1, le=255)
    """The likeliest bytes that are named at a place; of the others together their probability is said."""
    places: Whole = 80
    """Places of a passage that are spoken of, spread evenly; all bytes (or words) where it has fewer."""
    compare: Literal["bytes", "spans", "tokens"] = "bytes"
    """``bytes``: what is said of a place is what is believed of the byte there. ``spans``: places are words,
    and what is said is how likely the model finds each, in 3 bytes. ``tokens``: as ``bytes``, and where a
    token of the model begins how likely its ``top`` likeliest ones of 2 to 7 bytes are, in 9 bytes each."""

    @model_validator(mode="after")
    def _top_of_bytes(self) -> "Speech":
        """Refuse to name bytes where words are compared, and more tokens than can be told apart."""
        if self.compare == "spans" and self.top != type(self).model_fields["top"].default:
            raise say("has top, of which spans have none; leave it out, or compare bytes")
        if self.compare == "tokens" and self.top > MOST_TOKENS:
            raise say(f"has top {self.top}, but of tokens at most {MOST_TOKENS} are named")
        return self
