"""What a task is: the one object that knows what targets are and what a prediction of them says.

Everything else asks it: reading data, training, what leaves a client and what a teacher's answer becomes,
weights between clients, what is measured. So a further task is one more class here, and no ``if`` elsewhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.data.columns.choices import Choices
    from fedkt.knowledge.contributions import Contributions
    from fedkt.scenario import Data, Scenario

LabelNames = tuple[str, ...]
Targets = NDArray[Any]
"""``y`` of a data set: int64 [n] classes, or float32 [n, outputs]; of links int64 [n, 3]."""
Floats = NDArray[np.float64]
Figures = dict[str, float | None]
"""What was measured, by name; the leading figure is called "". None: it is undefined."""


@dataclass(frozen=True)
class Figure:
    """A figure of test rows: its name in files, its title in sentences, and how it is told and compared.

    ``share``: a part of one, told in per cent, and gains of it in points; else a number in its own unit.

    >>> rmse = Figure("rmse", "RMSE", share=False, higher_is_better=False)
    >>> rmse.text(12.34567), rmse.gain(12.0, 12.5)
    ('12.35', 0.5)
    """

    name: str
    title: str
    share: bool = True
    higher_is_better: bool = True

    @property
    def scale(self) -> float:
        """By what values are multiplied where they are told."""
        return 100.0 if self.share else 1.0

    @property
    def unit(self) -> str:
        """What stands behind a value."""
        return " %" if self.share else ""

    @property
    def unit_of_gain(self) -> str:
        """What stands behind a gain."""
        return " points" if self.share else " of gain"

    @property
    def sign(self) -> int:
        """By what values are multiplied so that more is better: 1 or -1."""
        return 1 if self.higher_is_better else -1

    def number(self, value: float, digits: int = 4) -> str:
        """Return a value as it is told, without its unit; ``digits``: of what is no share, significant."""
        return f"{100 * value:.1f}" if self.share else f"{value:.{digits}g}"

    def text(self, value: float) -> str:
        """Return a value as it is told."""
        return self.number(value) + self.unit

    def gain(self, after: Any, before: Any) -> Any:
        """Return by how much ``after`` is better than ``before``, numbers or arrays; below 0: worse."""
        return after - before if self.higher_is_better else before - after


@dataclass(frozen=True)
class Metric(Figure):
    """The leading figure of a task, by which runs are compared and the best round is chosen."""

    part: str = "score"
    """What a run's figures are called in its files."""
    lowest: float = 0.0
    """Where pictures of it begin; it may be below."""
    highest: float | None = 1.0
    """Where they end; None: at the largest value."""
    beside: tuple[Figure, ...] = ()
    """What reports tell beside it."""

    def told(self) -> dict[str, Any]:
        """Return what ``summary.json`` says of it."""
        return {"name": self.name, "higher_is_better": self.higher_is_better}


@dataclass(frozen=True)
class Misfit:
    """A setting of a scenario that makes no sense for a task: any value but its default, or some
    ``values``."""

    path: str
    why: str
    """As a clause."""
    values: tuple[Any, ...] | None = None


OTHER_TASKS = (
    Misfit(
        "data.transfer.rule.utility",
        "it asks how sure somebody is of one class",
        ("entropy", "margin", "sure", "disagreement", "telling", "gap", "changing", "rare"),
    ),
    Misfit(
        "privacy.mode",
        "what it protects is one class per row",
        ("vote_rr", "vote_gnmax", "proto_gauss"),
    ),
    Misfit("participation.blocked", "it names classes"),
    Misfit("data.tasks.by", "what is kept of tasks is measured by accuracy"),
    Misfit("clients.adapt.loss", "it makes rows sure of one class"),
    Misfit("clients.distill.snapshot", "it mixes probabilities of classes"),
    Misfit("data.per_site", "labels of a site's own are classes"),
    Misfit("data.unlabelled", "who has no labels makes classes of what a teacher says"),
    Misfit("clients.local.augment", "a view is a part of a class there"),
    Misfit("forecast", "it was fitted on classes"),
    Misfit("robust.filter", "it compares classes with labels", ("probe",)),
    Misfit("attacks.kind", "it lies about classes", ("label-flip", "peak", "constant", "collude")),
)
"""What speaks of one class per row."""


@dataclass(frozen=True)
class Task(ABC):
    """Base of the tasks. ``outputs`` is always the number of a model's outputs.

    ``form`` says what crosses the wire: ``logits`` (a model's outputs as they are) or ``probabilities``.
    """

    name: ClassVar[str]
    metric: ClassVar[Metric]
    answers: ClassVar[type[Any]]
    """The kind of knowledge that answers about transfer rows are."""
    grouped: ClassVar[str] = "class"
    """By what rows are dealt and held out."""
    exclusive: ClassVar[bool] = False
    """Whether a row is of exactly one class, so that what is said of it sums to one."""
    bounded: ClassVar[bool] = True
    """Whether outputs become probabilities, of which an energy follows."""
    labelled: ClassVar[bool] = True
    """Whether targets are read; if not, they follow from the rows (:meth:`of_rows`)."""
    writes: ClassVar[bool] = False
    """Whether its models write text."""
    behaviours: ClassVar[Mapping[str, str]] = {}
    """What takes the place of a strategy's client half, by its name."""
    losses: ClassVar[tuple[str, ...] | None] = None
    """The names of the registered distillation losses that fit; None: all that are not for another task."""
    defaults: ClassVar[Mapping[str, str]] = {}
    """What takes the place of a strategy's default loss."""
    unfit: ClassVar[str] = ""
    """Why a strategy is not for it, as a clause; empty: as the strategy has it."""
    misfits: ClassVar[tuple[Misfit, ...]] = ()
    """Settings of a scenario that make no sense here."""
    all_held: ClassVar[bool] = True
    """Whether some client must hold each group, since nobody could learn it otherwise."""
    held_by_row: ClassVar[bool] = False
    """Whether a client that says what it holds says so of each row, in place of each output."""

    # Data -----------------------------------------------------------------------------------------------

    def sized(self, groups: int) -> "Task":
        """Return the task of data whose targets, as read, are of so many groups."""
        return self

    def outputs(self, groups: int) -> int:
        """Return the number of a model's outputs for targets that, as read, ask for so many."""
        return groups

    @abstractmethod
    def read(
        self, where: str, y: Any, choices: "Choices", names: Sequence[str] | None = None
    ) -> tuple[Targets, LabelNames | None]:
        """Return targets as the task has them, and the names of what they speak of.

        Raises InputError, whose sentences begin with ``where``, unless they are targets of this task.
        """

    def of_rows(self, x: Any) -> Targets:
        """Return the targets of raw rows [n, ...] whose labels nobody reads: -1 [n] where these are all there
        is to go by."""
        return np.full(x.shape[0], -1)

    def told(self, data: "Data", *, private: bool) -> dict[str, Any]:
        """Return the settings of every client half that follow from the task; ``private``: whether its
        training is."""
        return {}

    @abstractmethod
    def about(self, outputs: int) -> str:
        """Return what there is to predict, in a few words."""

    def in_units(self, outputs: Tensor) -> Tensor:
        """Return a model's outputs as whoever uses the model wants them."""
        return outputs

    @abstractmethod
    def lacking(self, y: Targets, outputs: int, names: LabelNames | None) -> list[str]:
        """Return why nothing can be learned from the targets of all private rows, in sentences."""

    @abstractmethod
    def strata(self, y: Targets, of: Targets) -> NDArray[np.int64]:
        """Return the group [n] of each row, by which rows are dealt and held out; ``of``: of all rows."""

    @abstractmethod
    def groups(self, outputs: int) -> list[str]:
        """Return what the groups are called, in order."""

    @abstractmethod
    def frequencies(self, y: Targets, outputs: int) -> Floats:
        """Return how frequent each output is in these rows [outputs], in [0, 1]; 0 where that is nothing."""

    def share_told(self, share: Tensor, rows: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return what a client says of how frequent is what it holds: ``share`` [outputs] of each output.

        ``rows`` [n, ...]: those that it is asked about; ``x y``: its own. With :attr:`held_by_row` [n].
        """
        return share

    def unsaid(self, scenario: "Scenario") -> list[str]:
        """Return why what a scenario asks of clients cannot be said, in sentences."""
        return []

    def alternatives(self, outputs: int) -> int:
        """Return of how many classes a vote is."""
        return outputs

    @abstractmethod
    def made(self, rows: int, outputs: int) -> Tensor:
        """Return targets of made rows, which are nobody's: to try a step on."""

    @abstractmethod
    def copies(self, y: Targets, x: Any) -> list[int]:
        """Return which columns of a table [n, d] say the target of every row."""

    # Training and teaching ------------------------------------------------------------------------------

    @abstractmethod
    def row_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of training per row [B], of outputs [B, outputs] against targets."""

    def default_loss(self, name: str) -> str:
        """Return the distillation loss for a strategy whose default is this."""
        return self.defaults.get(name, name)

    @abstractmethod
    def said(self, logits: Tensor, form: str, temperature: float) -> Tensor:
        """Return what a client says of rows, from its model's outputs [..., outputs]."""

    @abstractmethod
    def heard(self, values: Tensor, form: str, temperature: float) -> Tensor:
        """Return outputs [..., outputs] that stand for what was said: what a student is fitted to."""

    def closed(self, values: Tensor) -> Tensor:
        """Return probabilities that a mean's rounding took a hair above 1 as 1."""
        return values.clamp(max=1.0)

    def opened(self, contributions: "Contributions", settings: Mapping[str, Any]) -> "Contributions":
        """Return contributions as methods fuse them, where they cross the wire in another form.

        ``settings``: of the client half.
        """
        return contributions

    def written(
        self, arrays: Mapping[str, Tensor], settings: Mapping[str, Any], beside: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return the arrays of a teacher as they cross the wire.

        ``beside``: the arrays [clients, ...] of the opened contributions that it is made of; none where it is
        made of none.
        """
        return arrays

    # Fusing ---------------------------------------------------------------------------------------------

    @abstractmethod
    def normalised(self, values: Tensor) -> Tensor:
        """Return numbers from 0 on [..., outputs] as probabilities again."""

    @abstractmethod
    def each_distribution(self, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Change each distribution [..., K] that probabilities hold, and return probabilities."""

    def energy(self, logits: Tensor) -> Tensor:
        """Return minus the energy of each row [...]: larger where the model knows it. Not of numbers."""
        raise TypeError(f"task {self.name} has no energy")

    @abstractmethod
    def described(self, values: Tensor) -> Tensor:
        """Return what describes each client [clients, d], of what it said [clients, rows, outputs]."""

    @abstractmethod
    def divergence(self, described: Tensor) -> Tensor:
        """Return d[n, m] = KL(client n || client m) in nats, float64 [clients, clients]."""

    # Measuring ------------------------------------------------------------------------------------------

    @abstractmethod
    def measure(
        self, scores: Tensor, y: Tensor, outputs: int, share: Floats | None, groups: NDArray[np.int64] | None
    ) -> Figures:
        """Return the figures of outputs [N, outputs] against the targets of test rows.

        ``share`` [groups]: also ``personal`` figures, of rows that are mixed as a client's own are: those of
        a group count by its share; ``groups`` [N]: of the test rows.
        """

    @abstractmethod
    def leading(self, scores: Tensor, y: Tensor) -> float | None:
        """Return the leading figure alone."""

    @abstractmethod
    def goodness(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return how well each row is predicted [N]: larger is better."""

    def confusion(self, scores: Tensor, y: Tensor, outputs: int) -> NDArray[np.int64] | None:
        """Return how many rows of each class were taken for each; None where rows are of no one class."""
        return None


@dataclass(frozen=True)
class ColumnsTask(Task):
    """Base of the tasks whose targets have a column per output: figures of rows that count by weights."""

    @abstractmethod
    def figures(self, scores: Floats, y: Floats, weights: Floats) -> Figures:
        """Return the figures of outputs [N, outputs] against targets, rows counting by weights [N]."""

    def measure(
        self, scores: Tensor, y: Tensor, outputs: int, share: Floats | None, groups: NDArray[np.int64] | None
    ) -> Figures:
        """Return the figures of all rows alike, and the personal ones of rows that count by their groups."""
        s, t = (part.double().numpy(force=True) for part in (scores, y))
        found = self.figures(s, t, np.ones(len(t)))
        if share is not None and groups is not None:
            own = self.figures(s, t, weights_of(share, groups))
            found |= {"personal" + (name and f"_{name}"): value for name, value in own.items()}
        return found

    def leading(self, scores: Tensor, y: Tensor) -> float | None:
        """Return the leading figure of :meth:`measure`."""
        return self.measure(scores, y, y.shape[1], None, None)[""]


def columns_of_targets(where: str, y: Any, what: str, task: str) -> tuple[Floats, LabelNames | None]:
    """Return targets as numbers [n, columns], and what the columns are called where they have names.

    ``y``: an array, or columns by name; of one dimension it is one column. Raises InputError where it has
    other dimensions, holds what is no number, or lacks a value.
    """
    from fedkt.data.columns.cells import array_of, is_missing, plural

    named = getattr(y, "columns", None)
    names = None if named is None else tuple(str(name) for name in named)
    values = array_of(f"{where}: y is", y)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(
            f"{where}: y has shape {values.shape}; of data.task {task} it must be [rows, {what}]."
        )
    missing = is_missing(values.reshape(-1)).reshape(values.shape)
    if missing.any():
        row, column = (int(at[0]) for at in missing.nonzero())
        raise InputError(
            f"{where}: y lacks {plural(int(missing.sum()), 'value')} (first: row {row}, column "
            f"{column}); each "
            "row must have all its targets, so leave those rows out or fill them."
        )
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: y holds {str(values.flat[0])[:40]!r}; of data.task {task} it must hold numbers."
        ) from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: y holds infinity; targets must be finite.")
    return numbers, names


def weights_of(share: Floats, groups: NDArray[np.int64]) -> Floats:
    """Return what each row counts [N] so that those of a group together count its share [groups].

    >>> weights_of(np.array([0.25, 0.75]), np.array([0, 1, 1, 1])).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    sizes = np.bincount(groups, minlength=len(share))
    return np.asarray((share / np.maximum(sizes, 1))[groups])
