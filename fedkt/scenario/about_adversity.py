"""The parts of a scenario about what can go wrong and what changes: hostile clients, fusion that withstands
them, churn; tasks that follow each other, models that adapt."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from fedkt.scenario.settings import NotNegative, Positive, Settings, Text, Whole, differs, must_be, say

Centre = Literal["mean", "median", "trimmed-mean", "geometric-median"]
Filter = Literal["none", "krum", "multi-krum", "cosine", "probe"]
Attacking = Literal[
    "none", "label-flip", "scale", "reorder", "peak", "random", "claim", "constant", "echo", "collude"
]  # fmt: skip
ATTACKS: tuple[str, ...] = get_args(Attacking)
_ATTACKS_WITH = {"factor": ("scale",), "source": ("collude",), "target": ("collude", "constant")}


_ROBUST_WITH: dict[str, tuple[str, ...]] = {
    "hostile": ("trimmed-mean", "krum", "multi-krum"),
    "least": ("cosine", "probe"),
    "probe_rows": ("probe",),
}
"""The settings of robust fusion that not every centre and filter reads, with those that do."""
_CHURN_WITH = {"slowdown": "stragglers", "join_by": "late_joiners", "leave_from": "leavers"}


class Robust(Settings):
    """How fusion withstands hostile contributions: some are dropped first, the others have a centre.

    >>> Robust(centre="trimmed-mean", hostile=0.2).active
    True
    """

    centre: Centre = "mean"
    """What takes the place of the strategy's mean over clients."""
    filter: Filter = "none"
    """What drops contributions before they are fused."""
    hostile: float = Field(0.25, ge=0, lt=0.5)
    """The largest share of hostile contributions to withstand (trimmed-mean, krum, multi-krum)."""
    least: Annotated[float, Field(ge=0, le=1)] | None = None
    """Cosine: smallest similarity to the median contribution, 0 unless set; probe: smallest agreement with
    the labels, as a share of the median client's, 0.5 unless set."""
    probe_rows: Whole = 100
    """Transfer rows whose labels the server knows and keeps to itself (probe)."""

    @field_validator(*_ROBUST_WITH, mode="before")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that neither the centre nor the filter would read."""
        users = _ROBUST_WITH[str(info.field_name)]
        chosen = {info.data.get("centre"), info.data.get("filter")}
        if None not in chosen and not chosen & set(users) and differs(cls, info, value):
            words = f"has no effect here; it belongs to {' and '.join(users)}"
            raise PydanticCustomError("sentence", "{words}", {"words": words})
        return value

    @property
    def active(self) -> bool:
        """Whether anything but the plain mean of all contributions is asked for."""
        return self.centre != "mean" or self.filter != "none"


class Attack(Settings):
    """Clients that send what harms the others.

    >>> Attack(kind="scale", clients=3, factor=10.0).clients
    3
    """

    kind: Attacking = Field(examples=["label-flip"])
    """What they send; none: what they know, so that a run without harm has the same clients in its means."""
    clients: Annotated[
        Whole | Annotated[tuple[Text, ...], Strict(False), Field(min_length=1)] | None,
        must_be("a number of clients, a list of their names in quotes, or null"),
    ] = None
    """How many (drawn by the seed) or which. Null: a quarter; with collude the fewest clients that hold most
    rows of ``source``."""
    factor: Positive = 100.0
    """Scale: what logits and prototypes are multiplied by."""
    source: int = Field(0, ge=0)
    """Collude: the class whose rows are lied about."""
    target: int = Field(1, ge=0)
    """Collude, constant: the class that is claimed."""

    @field_validator(*_ATTACKS_WITH, mode="before")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that this kind would ignore."""
        kind, kinds = info.data.get("kind"), _ATTACKS_WITH[str(info.field_name)]
        if kind in ATTACKS and kind not in kinds:
            words = f"does not belong to attack '{kind}'; it belongs to {' and '.join(kinds)}"
            raise PydanticCustomError("sentence", "{words}", {"words": words})
        return value

    @model_serializer(mode="wrap")
    def _own_settings(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only what belongs to the kind, so that what was written can be read again."""
        return {k: v for k, v in write(self).items() if self.kind in _ATTACKS_WITH.get(k, ATTACKS)}


Attacks = Annotated[tuple[Attack, ...], Strict(False)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Churn(Settings):
    """Clients that come, go and dawdle, in a simulation. Durations are simulated: nobody waits for them.

    >>> Churn(dropout=0.1, late_joiners=0.2, join_by=5).active
    True
    """

    dropout: Probability = 0.0
    """Probability that a client does not get, or never answers, a message."""
    stragglers: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of clients that are slow for the whole run."""
    slowdown: Annotated[float, Field(ge=1)] = 10.0
    """How many times longer a straggler takes."""
    seconds: Positive = 1.0
    """Median duration of a client's message, in seconds; later than ``participation.deadline_s`` is late."""
    spread: NotNegative = 0.5
    """Standard deviation of the logarithm of durations."""
    speeds: Annotated[tuple[Positive, ...], Strict(False), Field(min_length=1)] | None = Field(
        None, examples=[[1, 10]]
    )
    """What each client's durations are divided by, in the clients' order; two alone are those of the first
    and the last client, with even ratios between. Null: all are as fast."""
    late_joiners: Probability = 0.0
    """The share of clients that are not there at first; they join at a round up to ``join_by``."""
    join_by: Whole = 2
    """The last round at which a late joiner joins."""
    leavers: Probability = 0.0
    """The share of clients that leave for good, at a round from ``leave_from`` on."""
    leave_from: Whole = 2
    """The first round at which a leaver is gone."""
    trace: Text | None = None
    """A CSV file ``client,first,last``: the rounds, inclusive, in which a client is there."""

    @field_validator(*_CHURN_WITH, mode="before")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse to say how clients dawdle, come or go where none does."""
        share = _CHURN_WITH[str(info.field_name)]
        if info.data.get(share) == 0 and differs(cls, info, value):
            words = f"has no effect while {share} is 0; leave it out, or set churn.{share}"
            raise PydanticCustomError("sentence", "{words}", {"words": words})
        return value

    @property
    def active(self) -> bool:
        """Whether anything happens at all; messages that take as long as usual are nothing."""
        named = self.dropout or self.stragglers or self.late_joiners or self.leavers or self.trace
        return bool(named) or self.speeds is not None or (self.seconds, self.spread) != (1.0, 0.5)


class Drift(Settings):
    """When a client gives the alarm that what it makes of its own rows has fallen.

    Of the rows that ``data.validation`` sets aside, after each teacher. ``drift.json`` of the run has all
    classes and sites; ``checkpoint.keep`` keeps older models to compare with, and to go back to.

    >>> Drift(window=20).lasting
    2
    """

    window: Annotated[int, Field(ge=2)] = 10
    """Measured rounds that a round is compared with."""
    least: float = Field(0.1, gt=0, lt=1)
    """The smallest fall of accuracy that counts."""
    deviations: Positive = 3.0
    """Standard deviations, of those rounds or of a share of so many rows, by which it must fall."""
    lasting: Whole = 2
    """Rounds in a row for which it must have fallen."""


class Board(Settings):
    """How the newest contributions count where clients come when they can (``engine.kind: board``).

    >>> Board(half_life_s=60.0).fresh_s is None
    True
    """

    half_life_s: Positive | None = None
    """Seconds by which a contribution must be older to count half as much; null: age does not count."""
    fresh_s: Positive | None = None
    """Seconds after which a contribution is left out, also where ``participation.quorum`` is counted; null:
    each client's newest one stays."""


Group = Annotated[tuple[int | float | Text, ...], Strict(False), Field(min_length=1)]
MOST_TASKS = 16
"""A client's reply has a figure for each."""


class Tasks(Settings):
    """Tasks in sequence: in each round a client holds the rows of its task of that time alone.

    The models know all classes from the start. ``tasks.json`` of the run has what was kept and what was lost.

    >>> Tasks(groups=[[0, 1], [2, 3]], rounds=2, order="shifted").by
    'label'
    """

    by: Text = Field("label", examples=["label"])
    """What makes a task: ``label``, ``domain``, or the name of a column of a table."""
    groups: Annotated[tuple[Group, ...], Strict(False), Field(min_length=2, max_length=MOST_TASKS)] | None = (
        Field(None, examples=[[[0, 1], [2, 3]]])
    )
    """Which labels (numbers or names), domains or values belong to each task. Null: each domain is one."""
    rounds: Whole = 1
    """Rounds that a task lasts; the last one lasts to the end."""
    order: Annotated[
        Literal["same", "shifted", "random"] | dict[Text, Annotated[tuple[int, ...], Strict(False)]],
        must_be("same, shifted, random, or an order of tasks by client", "same", "shifted", "random"),
    ] = "same"
    """Same: all clients have task 0 first; shifted: client k begins with task k; random: each its own, by the
    seed; a mapping: by client the numbers of its tasks in order, the others as ``same``."""
    keep: int = Field(0, ge=0)
    """Rows of each earlier task that a client keeps."""

    @field_validator("groups")
    @classmethod
    def _groups_of_labels(cls, value: tuple[Group, ...] | None) -> tuple[Group, ...] | None:
        """Refuse a value that is named twice in one group."""
        for group in value or ():
            if len(set(group)) < len(group):
                raise say(f"names a value twice in the group {list(group)}; name it once")
        return value


_ADAPT_WITH: dict[str, tuple[str, ...]] = {
    "prior": ("im",),
    "beta": ("snc",),
    "lr": ("entropy", "im", "snc"),
    "trains": ("entropy", "im", "snc"),
    "budget": ("entropy", "im", "snc"),
}
"""The settings of adapting that not every loss reads, with those that do."""


class Adapt(Settings):
    """A copy of a client's model is brought to the transfer rows before it speaks of them, without labels.

    It sees transfer rows, and labelled ones of ``data.public`` where it may; the client trains on with its
    own model.

    >>> Adapt(loss="im", epochs=2).few is None
    True
    """

    loss: Literal["none", "entropy", "im", "snc", "statistics"] = "none"
    """Entropy: be sure of each row; im: and use all classes alike; snc: agree with the nearest rows;
    statistics: take over their means and variances in BatchNorm layers. None: the model speaks as it is."""
    epochs: Whole = 2
    """Passes over the transfer rows."""
    batch_size: Whole = 64
    """Rows."""
    lr: Positive = 0.001
    """Learning rate, of Adam; the head is not trained."""
    trains: Literal["features", "input"] = "features"
    """Features: all but the head; input: a 1x1 convolution of the client's own ahead of the model, for images
    of another sensor, and nothing of the model."""
    prior: Annotated[tuple[NotNegative, ...], Strict(False)] | None = Field(None, examples=[[0.7, 0.3]])
    """The mix of classes among the transfer rows, where their owner states it (im; ``few`` judge by it too);
    null: taken for even."""
    beta: NotNegative = 1.0
    """How fast the repulsion of snc fades."""
    few: Whole | None = None
    """Labelled rows per class of ``data.public``, by which a client chooses between its model and the copy;
    null: the copy is taken. Where classes are far from even, im harms and nobody sees it without labels."""
    budget: Whole | None = None
    """How many other rows of ``data.public`` a client may have labelled, over all rounds: those of which it
    is least sure. From the next round on the copy learns them too; null: none."""

    @field_validator(*_ADAPT_WITH, mode="before")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that this loss does not read."""
        owners, loss = _ADAPT_WITH[str(info.field_name)], info.data.get("loss")
        if loss not in (*owners, "none", None) and differs(cls, info, value):
            raise say(f"does not belong to loss '{loss}'; it belongs to {' and '.join(owners)}")
        return value

    @field_validator("prior")
    @classmethod
    def _adds_up(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and abs(sum(value) - 1) > 1e-6:
            raise say(f"adds up to {sum(value):g}; shares of classes add up to 1")
        return value
