"""The schema of a scenario: every setting with its type, range and default.

All models are frozen and refuse keys that they do not know. A model that is built directly from Python
raises pydantic's ValidationError; ``fedkt.scenario.load`` turns all of them into one InputError.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    Strict,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from fedkt.scenario.about_adversity import Attacks, Board, Churn, Drift, Robust
from fedkt.scenario.about_clients import Clients, ServerModel
from fedkt.scenario.about_data import Data
from fedkt.scenario.about_privacy import Privacy
from fedkt.scenario.settings import (
    Named,
    NotNegative,
    Positive,
    Settings,
    Text,
    Whole,
    differs,
    must_be,
    say,
)

Rows = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)]
Blocked = Annotated[
    tuple[Annotated[int, Field(ge=0)] | Text, ...], Strict(False), Field(min_length=1, examples=[[9]])
]


class StrategySpec(Named):
    """A strategy and its settings.

    >>> StrategySpec(name="knfu", beta=5).settings
    {'beta': 5}
    """

    name: str = Field("dwc", min_length=1)
    """A registered strategy, or ``package.module:name``."""


class Participation(Settings):
    """Who takes part in a round.

    >>> Participation(fraction=0.5, quorum=3).deadline_s
    600.0
    """

    fraction: float = Field(1.0, gt=0, le=1)
    """The share of the clients that is asked in each round."""
    quorum: Whole = 1
    """Clients; with fewer accepted replies the old teachers stay."""
    no_quorum: Literal["skip", "repeat"] = "skip"
    """Repeat: ask others, and again those who did not answer, before the round is given up."""
    retries: Whole = 3
    """How often a round is repeated at most, with ``no_quorum: repeat``."""
    deadline_s: Positive = 600.0
    """Seconds until a reply is late, for each of a round's two messages."""
    over_select: float = Field(1.0, ge=1)
    """Ask this many times more clients than needed; the first replies count, the others are late."""
    withdrawn: dict[Text, Whole] = Field(default_factory=dict)
    """Clients that are not asked any more, with the first round without them; fedkt forget writes it."""
    withdrawn_rows: dict[Text, Text | Rows] = Field(default_factory=dict)
    """By client the numbers of its rows that it does not use any more, counted from 0 among the rows of
    ``data.dataset``: a list, or a file with one number per line. ``fedkt forget --rows`` writes it."""
    blocked: dict[Text, Blocked] = Field(default_factory=dict)
    """By client the classes, numbers or names, that it never learns: it leaves its own rows of them out and
    takes them out of every teacher. ``fedkt forget --class`` writes it."""

    @field_validator("retries", mode="before")
    @classmethod
    def _of_repeat(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a number of retries that nobody makes."""
        if info.data.get("no_quorum") == "skip" and differs(cls, info, value):
            raise say("has no effect with no_quorum skip; it belongs to no_quorum repeat")
        return value


class Engine(Settings):
    """Where clients are simulated.

    >>> Engine(kind="ray", workers=4, memory_limit="8GiB").cohort
    'auto'
    """

    kind: Literal["inline", "processes", "ray", "flower", "board"] = "ray"
    """Inline: one process; processes: some of this machine, which keep their clients; ray: the same as actors
    of Ray's, on a cluster and with accelerators too; flower: Flower's own simulation; board: one process in
    which clients come and go in simulated time, and no round waits for anybody."""
    workers: Annotated[Literal["auto"] | Whole, must_be("auto or a whole number of at least 1", "auto")] = (
        "auto"
    )
    """Processes that clients are dealt to; auto: one per processor, or as many as share the accelerators."""
    cpus: Positive = 1.0
    """Processors per worker."""
    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = "auto"
    """Where clients are trained; ``auto``: on this machine's accelerator where ``gpus`` asks for one."""
    gpus: NotNegative = 0.0
    """Accelerators per worker; a fraction shares one."""
    address: Text | None = None
    """Of a running Ray cluster."""
    memory_limit: Annotated[
        Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? ?[KMGT]iB$")] | None,
        must_be("a size such as 4GiB, or null"),
    ] = None
    """What clients' states may take on this machine; more of them wait on disk. Null: a quarter of it."""
    cohort: Annotated[
        Literal["auto", "off"] | Whole, must_be("auto, off or a whole number of at least 1", "auto", "off")
    ] = "auto"
    """The largest number of clients of one architecture that are trained as one stacked model; auto: found
    by a trial before the first round."""
    compile: Literal["off", "auto", "torch", "graphs"] = "off"
    """How cohorts' steps are carried out: as written (``off``), through ``torch.compile`` (``torch``), as
    CUDA graphs (``graphs``), or as is fastest in the trial (``auto``). Compiled, sums may be taken in another
    order, so bits differ."""


class Evaluate(Settings):
    """When accuracy is measured.

    >>> Evaluate(every=5).every
    5
    """

    every: Whole = 1
    """Rounds from one evaluation to the next; the last round is always measured."""


class Checkpoint(Settings):
    """When a run is written down, to be resumed from there.

    >>> Checkpoint(every=10).every
    10
    """

    every: Whole = 1
    """Rounds from one checkpoint to the next; the last round, and one that is the best so far on validation
    rows, always have one. It is written while the next round trains, so a run that is killed goes on from
    the one before it at worst."""
    teachers: bool = False
    """Whether what the teachers of all rounds were made of is kept, among which ``fedkt forget --how own``
    repeats a client's run. That is what clients contributed, for as long as it is kept."""
    keep: Whole | None = None
    """Rounds from one to the next whose clients' states stay, for ``fedkt export --round`` and to compare
    with; null: none stay."""


class Scenario(Settings):
    """One experiment. Only its name is needed; :func:`fedkt.load_scenario` reads one from a file.

    >>> scenario = Scenario(name="mine", strategy=StrategySpec(name="fd"), rounds=3)
    >>> scenario.data.dataset, scenario.data.partition.clients
    ('digits', 10)
    """

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        must_be("letters, digits, '.', '_' and '-', since folders are named after it"),
    ] = Field(examples=["my-experiment"])
    """Letters, digits, ``.``, ``_`` and ``-``: folders are named after it."""
    data: Data = Data()
    """What is learned from."""
    clients: Clients = Clients()
    """The parties' models and their training."""
    strategy: StrategySpec = StrategySpec()
    """What contributions are fused by; a bare name takes the strategy's own defaults."""
    server_model: ServerModel | None = None
    """Null: the server trains no model."""
    privacy: Privacy = Privacy()
    """What protects that which is sent."""
    rounds: Whole = 10
    """Times that knowledge goes up and down."""
    patience: Whole | None = None
    """Measured rounds without a better mean accuracy on validation rows after which a run ends; null: all
    are run."""
    participation: Participation = Participation()
    """Who takes part in a round."""
    robust: Robust = Robust()
    """What withstands hostile contributions."""
    attacks: Attacks = ()
    """Clients that are hostile, in a simulation."""
    churn: Churn = Churn()
    """Clients that come and go, in a simulation."""
    drift: Drift | None = None
    """When a client gives the alarm that what it makes of its own rows has fallen; null: never."""
    board: Board = Board()
    """How the newest contributions count where no round waits for anybody."""
    forecast: Literal["none", "decline"] = "none"
    """Decline: the server forecasts from a client's first exchange whether it will gain, and does not teach
    those whose personal accuracy will more likely fall; they contribute, and train alone."""
    placebo: bool = False
    """Whether each client is taught by its own knowledge and its peers' answers to other rows: a control
    that tells knowledge from smoothing. ``fedkt compare --placebo`` runs it beside the strategies."""
    engine: Engine = Engine()
    """Where clients are simulated."""
    evaluate: Evaluate = Evaluate()
    """When accuracy is measured."""
    checkpoint: Checkpoint = Checkpoint()
    """When the run is written down, to be resumed."""
    allow: Annotated[tuple[Literal["weights", "features"], ...], Strict(False)] = ()
    """What strategies may share beyond knowledge."""
    seed: int = Field(0, ge=0)
    """What all random streams follow from, but for the noise of privacy."""

    @field_validator("patience")
    @classmethod
    def _needs_rows_to_judge_by(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and "data" in info.data and info.data["data"].validation == 0:
            raise say("needs rows to judge rounds by; set data.validation, such as 0.2")
        return value
