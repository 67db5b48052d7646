"""The parts of a scenario about clients and models: which, and how they train and distil."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fedkt.scenario.about_adversity import Adapt
from fedkt.scenario.settings import Named, NotNegative, Positive, Settings, Text, Whole, must_be, say

Optimizer = Literal["sgd", "adam", "adamw"]


class ModelSpec(Named):
    """A model of the zoo, or ``package.module:name``, with settings of its own.

    >>> ModelSpec(name="mlp", width=100).settings
    {'width': 100}
    """


def _only_sgd(value: float, info: ValidationInfo) -> float:
    optimizer = info.data.get("optimizer")
    if value and optimizer in ("adam", "adamw"):
        words = f"does not belong to optimizer '{optimizer}', which has its own; it belongs to sgd"
        raise PydanticCustomError("sentence", "{words}", {"words": words})
    return value


Epochs = Annotated[int, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1), AfterValidator(_only_sgd)]


class Local(Settings):
    """Training on private data, each round.

    >>> Local(epochs=1, optimizer="sgd", lr=0.01, momentum=0.9).batch_size
    32
    """

    epochs: Epochs = 3
    """Passes over all rows, from 0 on."""
    steps: Whole | None = None
    """Batches in all, in place of ``epochs``; null: ``epochs`` passes over all rows."""
    batch_size: Whole = 32
    """Rows."""
    optimizer: Optimizer = "adam"
    """One of torch's, with its defaults but for these settings."""
    lr: Positive = 0.001
    """Learning rate."""
    momentum: Momentum = 0.0
    """In [0, 1), of sgd only."""
    weight_decay: NotNegative = 0.0
    """L2 penalty; decoupled with adamw."""
    augment: Literal["rotations"] | None = None
    """``rotations``: each image is also learned turned by 90, 180 and 270 degrees, as a class of its own
    each, and the model learns what these views together say. A step takes four to five times as long."""


class Distill(Settings):
    """Training on what the teacher knows, each round.

    >>> Distill(epochs=5, temperature=3.0, loss="mse").batch_size
    64
    """

    together: bool | None = None
    """Whether the steps of training on private data rehearse what the newest teacher taught: each takes
    transfer rows beside its private ones, as many as a batch of distillation but at most half of
    ``clients.local.batch_size`` (a loss that compares rows with one another takes a whole batch), with the
    optimiser of ``clients.local``. Distillation is a phase of its own in any
    case. Null: as the strategy has it, and never in training with DP-SGD."""
    weigh: Literal["likeness"] | None = None
    """Likeness: transfer rows count the more, the more they look like the client's own; null: all alike."""
    weight: Positive = 1.0
    """Where private rows and a teacher are learned at once, in joint steps (``together``) and by estimators:
    what the teacher's rows count, as a multiple of what the private rows do."""
    snapshot: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of its own answers of before this round's private training that a client mixes into its
    teacher, so that what it trains on next does not wipe out what it knew; null: none."""
    project: Annotated[float, Field(ge=-1, le=1)] | None = None
    """In joint steps (``together``): where the cosine of the gradients of both losses in a layer is below
    this, and they conflict, what distillation asks against the private loss is taken off; null: nothing
    is."""
    epochs: Epochs = 3
    """Passes over the rows that the teacher speaks about, from 0 on."""
    batch_size: Whole = 64
    """Rows."""
    optimizer: Optimizer | None = None
    """Null: that of ``clients.local``."""
    lr: Positive | None = None
    """Null: that of ``clients.local``."""
    momentum: Momentum = 0.0
    """In [0, 1), of sgd only."""
    weight_decay: NotNegative = 0.0
    """L2 penalty; decoupled with adamw."""
    temperature: Positive | None = None
    """Softens teacher and student: softmax(logits / temperature). Null: the strategy's own, 1 for most."""
    loss: Text | None = None
    """Null: the strategy's own."""


def _add_up_to_one(shares: dict[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    if abs(total - 1) > 1e-6:
        words = f"shares that add up to 1, not {total:g}"
        raise PydanticCustomError("requirement", "{words}", {"words": words})
    return shares


Model = Annotated[Text | ModelSpec, must_be("a model's name, or a mapping such as {name: mlp, width: 100}")]
Share = Annotated[float, Field(gt=0, le=1)]
MODEL_TAGS = ("list-of-models", "shares-of-models")
"""Pydantic puts these into the place of an error; they are no keys."""


class Guard(Settings):
    """A client undoes a digestion that cost it more than one standard error on rows of its own.

    What it undid is ``undone`` in ``clients.jsonl``. Joint steps that did so are undone too, and the client
    trains alone in that round.

    >>> Guard(validation=0.2).validation
    0.2
    """

    validation: float = Field(0.1, gt=0, le=0.5)
    """The share of its training rows that a client sets aside for this."""
    folds: int | None = Field(None, ge=2, le=10, examples=[3])
    """In place of setting rows aside: into how many parts they are cut. A client keeps copies of its model
    that do without a part each, one that is taught and one that is not, and predicts rows like its own by its
    model only where the taught ones are better by more than two standard errors over all rows, else by a copy
    that trains alone. Training takes about 2 + 2 folds times as long."""

    @model_validator(mode="after")
    def _one_way(self) -> "Guard":
        """Refuse both ways at once."""
        if self.folds is not None and "validation" in self.model_fields_set:
            raise say("has validation, which sets rows aside, and folds, which need none; it must have one")
        return self

    @model_serializer(mode="wrap")
    def _of_its_way(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only what counts, so that what was written can be read again."""
        return {key: value for key, value in write(self).items() if key != "validation" or self.folds is None}


class Clients(Settings):
    """The parties: their models and how they train.

    >>> Clients(models={"mlp": 0.7, "cnn": 0.3}, local=Local(epochs=1)).distill.epochs
    3
    """

    models: Annotated[
        Annotated[list[Model], Field(min_length=1), Tag(MODEL_TAGS[0])]
        | Annotated[
            dict[Text, Share], Field(min_length=1), AfterValidator(_add_up_to_one), Tag(MODEL_TAGS[1])
        ],
        Discriminator(lambda value: MODEL_TAGS[isinstance(value, dict)]),
    ] = Field(default_factory=lambda: list[str | ModelSpec](["mlp"]))
    """A list is dealt in turn; a mapping gives each model's share of the clients;
    a name alone is everybody's."""
    local: Local = Local()
    """How they train on private data."""
    distill: Distill = Distill()
    """How they learn from a teacher."""
    adapt: Adapt = Adapt()
    """What is done to a copy of their model before it speaks of the transfer rows."""
    guard: Guard | None = None
    """Null: what a teacher does to a client stays."""

    @field_validator("models", mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        """Accept one model where a list of them belongs."""
        named = isinstance(value, dict) and isinstance(value.get("name"), str)
        return [value] if named or isinstance(value, str | ModelSpec) else value

    @field_validator("distill")
    @classmethod
    def _momentum_of_sgd(cls, value: Distill, info: ValidationInfo) -> Distill:
        """Refuse a momentum where the optimiser that is taken from ``local`` has its own."""
        local = info.data.get("local")
        if value.momentum and value.optimizer is None and local is not None and local.optimizer != "sgd":
            raise say(
                f"has momentum {value.momentum:g}, which does not belong to optimizer '{local.optimizer}' "
                "(that of clients.local); it belongs to sgd"
            )
        return value


class ServerModel(Settings):
    """A model of the server's own that learns from what is fused; its accuracy is ``accuracy.server``.

    >>> ServerModel(model="cnn", distill=Distill(epochs=10)).model
    'cnn'
    """

    model: Model = Field(examples=["cnn"])
    """A model of the zoo, or ``package.module:name``; with settings: a :class:`ModelSpec`."""
    distill: Distill | None = None
    """Null: as ``clients.distill``."""
