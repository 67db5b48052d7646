"""The client half of a method: what a party does with its own model.

A behaviour never runs a training loop. It *describes* its phases as :class:`Fit` objects (tensors, a
pure per-row loss, epochs, an optimiser) and says which inputs it needs predictions of; the engine runs
them, for one client or for a whole cohort of stacked models. So a behaviour is a few pure functions,
and every engine and every privacy mode can be put around them.

The steps of a round: ``digest`` the teacher, ``train`` on private data, ``extract`` a contribution,
``release`` it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn

from fedkt.knowledge.codec import Expected
from fedkt.knowledge.kinds import Dims, Knowledge
from fedkt.tasks import CLASSIFICATION, Task

if TYPE_CHECKING:
    from fedkt.distill.losses import Loss
    from fedkt.scenario import Distill, Local

Arrays = Mapping[str, Tensor]


class Forward(Protocol):
    """A model as losses see it: ``net(x) -> (features [B, width], logits [B, classes])``.

    >>> import torch
    >>> class Zeros:
    ...     params = {}
    ...     def __call__(self, x):
    ...         return torch.zeros(len(x), 4), self.head(torch.zeros(len(x), 4))
    ...     def head(self, z):
    ...         return torch.zeros(len(z), 3)
    >>> net: Forward = Zeros()
    >>> [part.shape for part in net(torch.ones(2, 5))]
    [torch.Size([2, 4]), torch.Size([2, 3])]
    """

    @property
    def params(self) -> Arrays:
        """The trainable parameters by name."""
        ...

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    def head(self, z: Tensor) -> Tensor:
        """Return the logits [B, classes] of features [B, width]."""
        ...


class Movable(Forward, Protocol):
    """A :class:`Forward` that other parameters can be put into, as into all of the engine's."""

    def at(self, params: Arrays, x: Tensor) -> tuple[Tensor, Tensor]:
        """Call the same model with these parameters, such as those that the server sent."""
        ...


REFERENCES = "features of references"
"""No array of a message has this name."""

RowLoss = Callable[[Forward, Arrays, Arrays], Tensor]
"""``loss(net, batch, constants) -> [B]``: one value per row; the engine takes the mean over rows."""


@dataclass(frozen=True)
class Steps:
    """How a phase is optimised: epochs, rows per batch, optimiser name and its settings.

    ``batches``: how many batches are taken in all, in place of whole epochs (None: ``epochs`` passes).
    ``optimizer``: ``sgd``, ``adam`` or ``adamw``; ``momentum`` in [0, 1), of sgd only.

    >>> steps = Steps(epochs=3, batch_size=32, optimizer="adam", lr=0.001)
    >>> steps.count(100)  # 4 batches, the last of 4 rows, three times
    12
    """

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    batches: int | None = None

    def count(self, size: int) -> int:
        """Return the number of batches that are taken of ``size`` rows."""
        if size == 0:
            return 0
        return self.epochs * -(-size // self.batch_size) if self.batches is None else self.batches

    @classmethod
    def local(cls, part: "Local") -> "Steps":
        """Read the steps of training on private data from a scenario."""
        return cls(
            part.epochs,
            part.batch_size,
            part.optimizer,
            part.lr,
            part.momentum,
            part.weight_decay,
            part.steps,
        )

    @classmethod
    def distill(cls, part: "Distill", local: "Local") -> "Steps":
        """Read the steps of distillation; the optimiser and its rate are those of ``local`` unless set."""
        optimizer, lr = part.optimizer or local.optimizer, part.lr or local.lr
        return cls(part.epochs, part.batch_size, optimizer, lr, part.momentum, part.weight_decay)


@dataclass(frozen=True)
class Others:
    """Rows of another kind, the last ``size`` of a phase; a batch takes up to ``batch_size`` of them."""

    size: int
    batch_size: int


@dataclass(frozen=True)
class Asked:
    """What a model is asked as a phase begins: features and logits of ``x`` [m, ...].

    ``rows(features [m, width], logits [m, classes])`` makes further rows of the phase of them, by name, which
    stay as they are while the model is trained.
    """

    x: Tensor
    rows: Callable[[Tensor, Tensor], Arrays]


@dataclass(frozen=True)
class Fit:
    """One training phase.

    ``name`` names the phase's optimiser state and random stream; ``rows`` holds tensors with one entry
    per row (first dimension), batched together; ``constants`` are the same for every row of this
    client; ``private`` says whether the rows are the party's own data, which is what differential
    privacy protects; ``only``: the names of the parameters that are trained (empty: all of them);
    ``coupled``: whether a row's loss depends on the other rows of its batch, so that batches may be neither
    padded nor taken apart; ``first``: what the model is asked as the phase begins, which becomes rows;
    ``others``: which of the rows are of another kind than those
    that ``steps`` speak of (:mod:`fedkt.client.joint`); ``slots``: a public number that private training
    counts in place of its rows; ``project``: the cosine below which the gradient of the others' loss gives
    way to that of the first rows' (:mod:`fedkt.distill.conflict`).

    >>> import torch
    >>> rows = {"x": torch.zeros(100, 1, 8, 8), "y": torch.zeros(100, dtype=torch.int64)}
    >>> Fit("train", rows, classification, Steps(3, 32, "adam", 0.001), private=True).size
    100
    """

    name: str
    rows: Arrays
    loss: RowLoss
    steps: Steps
    constants: Arrays = field(default_factory=dict)
    private: bool = False
    only: frozenset[str] = frozenset()
    coupled: bool = False
    first: "tuple[Asked, ...]" = ()
    slots: int | None = None
    others: Others | None = None
    project: float | None = None

    @property
    def count(self) -> int:
        """How many batches are taken: as many as the rows that ``steps`` speak of need."""
        return self.steps.count(self.counted if self.others is None else self.size - self.others.size)

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(next(iter(self.rows.values())))

    @property
    def counted(self) -> int:
        """The number of rows that steps, sampling rate and divisor of private training follow from."""
        return self.size if self.slots is None else self.slots


@dataclass(frozen=True)
class Holding:
    """Everything that one party holds and a behaviour may read.

    ``x`` [n, ...], ``y`` int64 [n], or as its ``task`` has targets: private rows; ``transfer`` [rows, ...]:
    the transfer set, None without one; ``public``: labelled public rows (x, y) or None; ``label_share``
    [classes]: share of each class among the private rows; ``local``, ``distill``: the scenario's training and
    distillation; ``settings``: the behaviour's settings from its strategy.

    >>> import torch
    >>> steps = Steps(1, 32, "sgd", 0.1)
    >>> x, y, share = torch.zeros(2, 5), torch.tensor([0, 1]), torch.tensor([0.5, 0.5])
    >>> Holding("0", 0, Dims(0, 0, 2, 4), x, y, None, None, share, steps, steps, {}).transfer is None
    True
    """

    client: str
    seed: int
    dims: Dims
    x: Tensor
    y: Tensor
    transfer: Tensor | None
    public: tuple[Tensor, Tensor] | None
    label_share: Tensor
    local: Steps
    distill: Steps
    settings: Mapping[str, Any]
    labelled: bool = True
    """Whether ``y`` are labels; where the scenario says that the client has none they are -1."""
    task: Task = CLASSIFICATION

    @property
    def training(self) -> "RowLoss":
        """The loss of training on rows ``x`` and their targets ``y``; of classes :func:`classification`."""
        return classification if self.task == CLASSIFICATION else partial(supervised, task=self.task)


class Client(ABC):
    """Base of every client behaviour (entry points ``fedkt.clients``).

    ``sends`` and ``accepts`` are the only knowledge that may leave and enter; both ends compute the
    exact arrays from them, so the outgoing guard and the server's check are the same table. ``settings``
    come from the strategy; ``dims`` are the sizes of the message.

    >>> import torch
    >>> from fedkt.knowledge import Nothing
    >>> class Alone(Client):
    ...     sends = accepts = Nothing
    ...     @staticmethod
    ...     def contribution(dims, settings):
    ...         return Nothing.expected()
    ...     @staticmethod
    ...     def teacher(dims, settings, *, with_rows):
    ...         return Nothing.expected()
    ...     def train(self, teacher):
    ...         rows = {"x": self.holding.x, "y": self.holding.y}
    ...         return Fit("train", rows, classification, self.holding.local, private=True)
    ...     def extract(self, features, logits, params):
    ...         return Nothing()
    >>> steps, y = Steps(1, 32, "sgd", 0.1), torch.tensor([0, 1])
    >>> held = Holding("0", 0, Dims(0, 0, 2, 4), torch.zeros(2, 5), y, None, None, y / 2, steps, steps, {})
    >>> Alone(held).train(None).size
    2
    """

    sends: ClassVar[type[Knowledge]]
    accepts: ClassVar[type[Knowledge]]
    decides: ClassVar[str] = ""
    """Which of the :meth:`predictors` is the client's own prediction; empty: the model's logits."""
    decides_own: ClassVar[str] = ""
    """Which of them is its prediction of rows that are dealt as its own are: of personal accuracy and
    validation, not of the common test set; empty: as ``decides``."""
    can_vote: ClassVar[bool] = False
    """Whether the setting ``form: votes`` makes the contribution one class per transfer row."""

    digests_private_rows: ClassVar[bool] = False
    """Whether :meth:`digest` trains on private rows too, which private training is not planned for."""

    read_here: ClassVar[frozenset[str]] = frozenset()
    """Arrays of a teacher whose values :meth:`train` or :meth:`digest` looks at: they stay on the CPU where
    clients train on an accelerator, which would have to be waited for."""

    learns_unlabelled: ClassVar[bool] = False
    """Whether it can learn without labels of its own, from teachers alone."""

    distils_transfer_rows: ClassVar[bool] = False
    """Whether :meth:`digest` distils on transfer rows alone, so that ``clients.distill.together`` can do it
    in the steps of :meth:`train`."""

    def __init__(self, holding: Holding) -> None:
        self.holding = holding

    @staticmethod
    @abstractmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return the arrays of a contribution about ``dims.rows`` transfer rows."""

    @staticmethod
    @abstractmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return the arrays of a teacher about ``dims.rows`` transfer rows, with their ids or without."""

    @staticmethod
    def reads_private_rows(settings: Mapping[str, Any]) -> bool:
        """Say whether a contribution is computed from private rows, as means per class and counts are.

        False promises that it comes from public rows and the model alone, which after private training costs
        no privacy; private training then gives :meth:`extract` an instance that holds no private rows.
        """
        return True

    @classmethod
    def attach(cls, net: nn.Module, width: int) -> None:
        """Add parts to a model that the behaviour trains beside features and head (here: none).

        ``width``: the number of features. Torch's random state is seeded for the initial weights.
        """
        return

    def prepare(self) -> Fit | None:
        """Return what to train once, before the first round."""
        return None

    def digest(self, teacher: Arrays) -> Fit | None:
        """Return what to train when a teacher arrives (None: it is only kept for ``train``).

        ``teacher``: tensors by name, as :meth:`teacher` declares them, on the client's device.
        """
        return None

    def adopt(self, teacher: Arrays) -> Arrays | None:
        """Return parameters by name that replace the model's before digestion (None: it stays).

        Only where weights are shared.
        """
        return None

    @abstractmethod
    def train(self, teacher: Arrays | None) -> Fit | None:
        """Return what to train on private data (None: nothing).

        ``teacher``: the newest one that was digested, tensors by name; None before there is one.
        """

    def inputs(self, rows: Tensor | None) -> Tensor | None:
        """Return the inputs [n, ...] that ``extract`` needs predictions of (None: none).

        ``rows`` int32 [rows]: the transfer rows that were asked for; None: all of them, in order.
        """
        return None

    @abstractmethod
    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Summarise the predictions on ``inputs`` as this client's contribution.

        ``features`` [n, width], ``logits`` [n, classes]; ``params``: the model's parameters by name.
        """

    @staticmethod
    def prototypes(teacher: Arrays) -> tuple[Tensor, Tensor] | None:
        """Return the prototypes [classes, width] whose nearest decides, and which are known, bool [classes].

        None: the model's own logits decide. What a behaviour returns here is exported with a model.
        """
        return None

    def prior(self) -> Tensor | None:
        """Return what the client adds to its model's scores [classes] for rows that are dealt as its own are.

        It is kept with the client's state, so that an exported model has it. None: nothing.
        """
        return None

    def references(self) -> Tensor | None:
        """Return rows [n, ...] whose features :meth:`predictors` compares others with (None: none)."""
        return None

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        """Return further scores [n, classes] to evaluate beside the model's own, by name.

        ``features`` [n, width] and ``logits`` [n, classes] are of test rows; ``teacher`` holds the features
        of :meth:`references` as :data:`REFERENCES`, where there are some.
        """
        return {}


def transfer_rows(holding: Holding, rows: Tensor | None) -> Tensor:
    """Return the transfer rows [n, ...] asked for by ``rows`` int [n] (None: all of them, in order).

    Raises ValueError where there is no transfer set.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> transfer_rows(SimpleNamespace(transfer=torch.tensor([[1.0], [2.0], [3.0]])), torch.tensor([2, 0]))
    tensor([[3.],
            [1.]])
    """
    if holding.transfer is None:
        raise ValueError("this behaviour needs a transfer set")
    return holding.transfer if rows is None else holding.transfer[rows.long()]


def supervised(net: Forward, batch: Arrays, constants: Arrays, *, task: Task) -> Tensor:
    """Return the task's loss [B] of the model on ``batch['x']`` against the targets ``batch['y']``.

    >>> import torch
    >>> sure = lambda x: (x, torch.tensor([[0.0, 0.0]]))
    >>> batch = {"x": torch.zeros(1, 2), "y": torch.tensor([1])}
    >>> supervised(sure, batch, {}, task=CLASSIFICATION)  # ln 2
    tensor([0.6931])
    """
    _, logits = net(batch["x"])
    return task.row_loss(logits, batch["y"])


def classification(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Cross entropy [B], in nats, of the model on ``batch['x']`` against the labels ``batch['y']`` int64 [B].

    >>> import torch
    >>> sure = lambda x: (x, torch.tensor([[0.0, 0.0]]))
    >>> classification(sure, {"x": torch.zeros(1, 2), "y": torch.tensor([1])}, {})  # ln 2
    tensor([0.6931])
    """
    return supervised(net, batch, constants, task=CLASSIFICATION)


def distillation(
    net: Forward, batch: Arrays, constants: Arrays, *, loss: "Loss", temperature: float
) -> Tensor:
    """Distillation loss [B] of the model's logits against a teacher's, ``batch['target']`` [B, classes].

    ``loss``: one of ``fedkt.losses``; ``temperature`` above 0.

    >>> import torch
    >>> from fedkt.distill.losses import mse
    >>> net = lambda x: (x, torch.tensor([[0.0, 2.0]]))
    >>> batch = {"x": torch.zeros(1, 2), "target": torch.zeros(1, 2)}
    >>> distillation(net, batch, {}, loss=mse, temperature=1.0)
    tensor([2.])
    """
    _, logits = net(batch["x"])
    return loss(logits, batch["target"], temperature)


def tutored(
    net: Forward, batch: Arrays, constants: Arrays, *, alpha: float, loss: "Loss", temperature: float
) -> Tensor:
    """Return CE(f(x), y) + alpha loss(f(x), target, temperature) per row [B].

    The second only where ``batch['known']`` [B] is 1, not where it is 0. ``alpha`` from 0 on.

    >>> import torch
    >>> from fedkt.distill.losses import mse
    >>> net = lambda x: (x, torch.zeros(2, 2))
    >>> batch = {"x": torch.zeros(2, 2), "y": torch.tensor([0, 1]), "target": torch.ones(2, 2)}
    >>> tutored(net, batch | {"known": torch.tensor([1.0, 0.0])}, {}, alpha=2.0, loss=mse, temperature=1.0)
    tensor([2.6931, 0.6931])
    """
    _, logits = net(batch["x"])
    own = CLASSIFICATION.row_loss(logits, batch["y"])
    return own + alpha * batch["known"] * loss(logits, batch["target"], temperature)
