"""The kinds of knowledge: which arrays each consists of, with dtype, shape and range.

What a kind declares is all that a message of it may hold; :mod:`fedkt.knowledge.codec` holds both ends to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedkt.knowledge.codec import Expected, Spec

MOST_DENSE = 20.0
"""A log density ratio lies within ± this."""


@dataclass(frozen=True)
class Dims:
    """The sizes that fix the shape of every kind of knowledge.

    ``rows``: number of transfer rows that the message speaks about; ``transfer``: size of the transfer
    set (0: none); ``classes``: outputs of a model; ``width``: feature width of the client's model;
    ``parameters``: the shapes of its parameters and running statistics by name; ``clients``: how many take
    part in the run;
    ``answers``: the kind of knowledge that answers about transfer rows are (default: :class:`Logits`).

    >>> Dims(rows=100, transfer=300, classes=10, width=64).about(0).rows
    300
    """

    rows: int
    transfer: int
    classes: int
    width: int
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    clients: int = 0
    answers: type[Any] | None = None

    @property
    def predictions(self) -> type[Any]:
        """The kind of knowledge that answers about transfer rows are."""
        return self.answers or Logits

    def about(self, rows: int) -> "Dims":
        """Return the sizes of a message about this many rows (0: the whole transfer set)."""
        return replace(self, rows=rows or self.transfer)


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Base of all kinds. Fields are arrays or None; a None field is not sent.

    >>> @dataclass(frozen=True, eq=False)
    ... class Counts(Knowledge):
    ...     kind = "counts"
    ...     counts: NDArray[np.int32]
    >>> Counts(np.array([3, 1], np.int32)).arrays()
    {'counts': array([3, 1], dtype=int32)}
    """

    kind: ClassVar[str]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to send, by name."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: array for name, array in held.items() if array is not None}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Knowledge":
        """Build the knowledge from its arrays. Raises TypeError where others are given than its fields."""
        return cls(**arrays)


@dataclass(frozen=True, eq=False)
class Nothing(Knowledge):
    """A reply without knowledge: the client took part and sent nothing.

    >>> Nothing().arrays(), Nothing.expected()
    ({}, {})
    """

    kind = "nothing"

    @staticmethod
    def expected() -> Expected:
        """Return the empty set of arrays."""
        return {}


@dataclass(frozen=True, eq=False)
class Answers(Knowledge):
    """Base of what clients answer about transfer rows, and of what a teacher says of them.

    ``values`` float32 [rows, outputs]; ``rows`` int32 [rows]: the transfer rows that a teacher speaks about
    (None: the whole set in order); ``label_share`` float32 [outputs]: how frequent each output is in the
    sender's data, sent only where a strategy is set to ask for it; ``density`` float32 [rows]: log ratio of
    how likely a row is among the sender's own and among transfer rows (:mod:`fedkt.client.familiarity`),
    within ±:data:`MOST_DENSE`, where a strategy weighs clients by it; ``census``
    int32 [groups]: how many of the sender's rows are near each group of transfer rows, where the row policy
    asks for it.

    >>> dims = Dims(rows=2, transfer=5, classes=3, width=4)
    >>> Answers.expected(dims, probabilities=False, density=True)["density"].shape
    (2,)
    """

    values: NDArray[np.float32]
    rows: NDArray[np.int32] | None = None
    label_share: NDArray[np.float32] | None = None
    density: NDArray[np.float32] | None = None
    census: NDArray[np.int32] | None = None

    shares_sum: ClassVar[bool] = False
    """Whether frequencies of outputs sum to one."""
    shares_of_rows: ClassVar[bool] = False
    """Whether what is told to be frequent is what each row is of, in place of each output."""

    @classmethod
    def expected(
        cls,
        dims: Dims,
        *,
        probabilities: bool,
        with_rows: bool = False,
        label_share: bool = False,
        density: bool = False,
        selected: bool = False,
        census: int = 0,
    ) -> Expected:
        """Return the arrays of a message about ``dims.rows`` rows.

        ``probabilities``: in place of a model's outputs as they are; ``selected``: rows that the sender
        leaves out are zeros, of which packing leaves next to nothing; ``census``: into how many groups
        the sender's rows are counted, 0: they are not.
        """
        shape = (dims.rows, dims.classes)
        values = cls.probable(shape, selected=selected) if probabilities else Spec("float32", shape)
        found = {"values": values}
        if with_rows:
            found["rows"] = row_ids(dims)
        if label_share:
            of = dims.rows if cls.shares_of_rows else dims.classes
            found["label_share"] = Spec("float32", (of,), 0.0, 1.0, simplex=cls.shares_sum)
        if density:
            found["density"] = Spec("float32", (dims.rows,), -MOST_DENSE, MOST_DENSE)
        if census:
            found["census"] = Spec("int32", (census,), 0, 2**31 - 1)
        return found

    @classmethod
    def probable(cls, shape: tuple[int, ...], *, selected: bool) -> Spec:
        """Return what probabilities must be. Raises TypeError where the kind has none."""
        raise TypeError(f"{cls.__name__} has no probabilities")


@dataclass(frozen=True, eq=False)
class Logits(Answers):
    """Predictions of classes on transfer rows.

    ``values``: logits, or probabilities whose rows sum to one; ``label_share``: share of each class.

    >>> Logits.expected(Dims(rows=2, transfer=5, classes=3, width=4), probabilities=False)["values"].shape
    (2, 3)
    """

    kind = "logits"
    shares_sum = True

    @classmethod
    def probable(cls, shape: tuple[int, ...], *, selected: bool) -> Spec:
        """Rows sum to one; one that is left out is zeros."""
        return Spec("float32", shape, 0.0, 1.0, simplex=True, empty_rows=selected, packed=selected)


@dataclass(frozen=True, eq=False)
class LabelProbabilities(Answers):
    """Predictions of several labels of a row, each by itself.

    ``values``: logits, or probabilities of each label in [0, 1], whose rows sum to anything;
    ``label_share``: share of the sender's rows that have each label.

    >>> dims = Dims(rows=2, transfer=5, classes=3, width=4)
    >>> LabelProbabilities.expected(dims, probabilities=True)["values"].simplex
    False
    """

    kind = "label_probabilities"

    @classmethod
    def probable(cls, shape: tuple[int, ...], *, selected: bool) -> Spec:
        """Each in [0, 1]; rows that are left out have no sign of their own, so there are none."""
        if selected:
            raise TypeError("of several labels zeros are an answer; no row can be left out by them")
        return Spec("float32", shape, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class LinkProbabilities(LabelProbabilities):
    """Predictions whether links are true, one a row.

    ``label_share`` [rows]: the share of the sender's links that are of the row's relation.

    >>> dims = Dims(rows=2, transfer=5, classes=1, width=4)
    >>> LinkProbabilities.expected(dims, probabilities=True, label_share=True)["label_share"].shape
    (2,)
    """

    kind = "link_probabilities"
    shares_of_rows = True


@dataclass(frozen=True, eq=False)
class Numbers(Answers):
    """Predictions of numbers: ``values`` float32 [rows, targets], finite, within ± ``LIMIT``.

    >>> Numbers.expected(Dims(rows=2, transfer=5, classes=1, width=4), probabilities=True)["values"].high
    10000.0
    """

    kind = "numbers"

    @classmethod
    def probable(cls, shape: tuple[int, ...], *, selected: bool) -> Spec:
        """There are no probabilities: predictions as they are."""
        return Spec("float32", shape)


@dataclass(frozen=True, eq=False)
class ClassLogits(Knowledge):
    """Mean prediction per true class.

    ``values`` float32 [classes, classes]: row l is the mean softmax over the sender's rows of class l,
    zeros where it has none; ``counts`` int32 [classes]: rows behind each mean (0: unknown).

    >>> ClassLogits(np.eye(3, dtype=np.float32), np.array([2, 1, 4], np.int32)).arrays()["counts"]
    array([2, 1, 4], dtype=int32)
    """

    kind = "class_logits"
    values: NDArray[np.float32]
    counts: NDArray[np.int32]

    @staticmethod
    def expected(dims: Dims) -> Expected:
        """Return the arrays of one message."""
        shape = (dims.classes, dims.classes)
        return {
            "values": Spec("float32", shape, 0.0, 1.0, simplex=True, empty_rows=True),
            "counts": _counts(dims),
        }


@dataclass(frozen=True, eq=False)
class Prototypes(Knowledge):
    """Mean feature vector per class.

    ``values`` float32 [classes, width], zeros where unknown; ``counts`` int32 [classes]: rows behind each.

    >>> {name: spec.shape for name, spec in Prototypes.expected(Dims(0, 0, classes=3, width=4)).items()}
    {'values': (3, 4), 'counts': (3,)}
    """

    kind = "prototypes"
    values: NDArray[np.float32]
    counts: NDArray[np.int32]

    @staticmethod
    def expected(dims: Dims) -> Expected:
        """Return the arrays of one message."""
        return {"values": Spec("float32", (dims.classes, dims.width)), "counts": _counts(dims)}


@dataclass(frozen=True, eq=False)
class PrototypeSets(Knowledge):
    """The prototypes of every client, in the order of the clients.

    ``values`` float32 [clients, classes, width]; ``counts`` int32 [clients, classes]: rows behind each
    (0: the client does not hold the class, whose value then is all clients' mean, or took no part).

    >>> PrototypeSets.expected(Dims(0, 0, classes=3, width=4, clients=10))["values"].shape
    (10, 3, 4)
    """

    kind = "prototype_sets"
    values: NDArray[np.float32]
    counts: NDArray[np.int32]

    @staticmethod
    def expected(dims: Dims) -> Expected:
        """Return the arrays of one message."""
        shape = (dims.clients, dims.classes)
        return {
            "values": Spec("float32", (*shape, dims.width)),
            "counts": Spec("int32", shape, 0, 2**31 - 1),
        }


@dataclass(frozen=True, eq=False)
class Quantised(Knowledge):
    """Probabilities on transfer rows in whole units of 1/(2^bits - 1), packed.

    ``values``: with one bit the class of each row, uint8 [rows] (uint16 above 256 classes), else its units,
    uint8 [rows, classes]; ``base`` int32 []: the round of the teacher that they are the difference to, 0 for
    none; in a teacher, the round that made it; ``rows`` as in :class:`Logits`.

    >>> Quantised.expected(Dims(rows=2, transfer=5, classes=3, width=4), bits=1)["values"].dtype
    'uint8'
    """

    kind = "quantised"
    values: NDArray[np.unsignedinteger[Any]]
    base: NDArray[np.int32]
    rows: NDArray[np.int32] | None = None

    @staticmethod
    def expected(dims: Dims, *, bits: int, with_rows: bool = False) -> Expected:
        """Return the arrays of a message about ``dims.rows`` rows; ``bits`` from 1 to 8."""
        if bits == 1:
            dtype = "uint8" if dims.classes <= 256 else "uint16"
            values = Spec(dtype, (dims.rows,), 0, dims.classes - 1, packed=True)
        else:
            values = Spec("uint8", (dims.rows, dims.classes), 0, 2**bits - 1, packed=True)
        found = {"values": values, "base": Spec("int32", (), 0, 2**31 - 1)}
        if with_rows:
            found["rows"] = row_ids(dims)
        return found


@dataclass(frozen=True, eq=False)
class Votes(Knowledge):
    """One class per transfer row.

    ``labels`` int16 [rows], -1 where the sender abstains; ``rows`` as in :class:`Logits`.

    >>> Votes(np.array([2, -1], np.int16)).arrays()
    {'labels': array([ 2, -1], dtype=int16)}
    """

    kind = "votes"
    labels: NDArray[np.int16]
    rows: NDArray[np.int32] | None = None

    @staticmethod
    def expected(dims: Dims, *, with_rows: bool = False) -> Expected:
        """Return the arrays of a message about ``dims.rows`` rows."""
        found = {"labels": Spec("int16", (dims.rows,), -1, dims.classes - 1)}
        if with_rows:
            found["rows"] = row_ids(dims)
        return found


@dataclass(frozen=True, eq=False)
class Alignment(Knowledge):
    """What brings features of different domains together: mean embeddings, and votes on transfer rows.

    ``source``, ``target`` float32 [size]: mean embedding of the sender's own rows and of the transfer rows;
    ``reference`` float32 [size]: the fused one, in a teacher. Each has length at most 1, so that a client
    moves a mean over n clients by at most 2/n. Votes of a client: ``labels`` int16 [rows], one class per row,
    with ``confidence`` float32 [rows] or without, or ``values`` float32 [rows, classes], its probabilities.
    In a teacher ``labels`` are the voted ones, -1 where there is no consensus. ``rows`` as in
    :class:`Logits`.

    >>> dims = Dims(rows=2, transfer=5, classes=3, width=4)
    >>> sorted(Alignment.expected(dims, size=8, embeddings=["source", "target"], votes=["labels"]))
    ['labels', 'source', 'target']
    """

    kind = "alignment"
    source: NDArray[np.float32] | None = None
    target: NDArray[np.float32] | None = None
    reference: NDArray[np.float32] | None = None
    labels: NDArray[np.int16] | None = None
    confidence: NDArray[np.float32] | None = None
    values: NDArray[np.float32] | None = None
    rows: NDArray[np.int32] | None = None

    @staticmethod
    def expected(
        dims: Dims,
        *,
        size: int,
        embeddings: Sequence[str],
        votes: Sequence[str],
        abstain: bool = False,
        with_rows: bool = False,
    ) -> Expected:
        """Return the arrays of a message: the named embeddings of ``size`` numbers and the named votes.

        ``abstain``: whether a label may be -1.
        """
        found = {name: Spec("float32", (size,), -1.0, 1.0, norm=1.0) for name in embeddings}
        specs = {
            "labels": Spec("int16", (dims.rows,), -1 if abstain else 0, dims.classes - 1),
            "confidence": Spec("float32", (dims.rows,), 0.0, 1.0),
            "values": Spec("float32", (dims.rows, dims.classes), 0.0, 1.0, simplex=True),
        }
        found |= {name: specs[name] for name in votes}
        if with_rows:
            found["rows"] = row_ids(dims)
        return found


@dataclass(frozen=True, eq=False)
class Weights(Knowledge):
    """A whole model: only for strategies that declare ``shares: weights``.

    ``tensors`` by parameter name, float32; ``examples`` int32 []: training rows behind them.

    >>> list(Weights({"bias": np.zeros(3, np.float32)}, np.array(30, np.int32)).arrays())
    ['tensor.bias', 'examples']
    """

    kind = "weights"
    tensors: Mapping[str, NDArray[np.float32]]
    examples: NDArray[np.int32]

    PREFIX: ClassVar[str] = "tensor."

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to send, by name."""
        return {f"{self.PREFIX}{n}": a for n, a in self.tensors.items()} | {"examples": self.examples}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Weights":
        """Build the weights from their arrays."""
        cut = len(cls.PREFIX)
        tensors = {n[cut:]: a for n, a in arrays.items() if n.startswith(cls.PREFIX)}
        return cls(tensors, arrays["examples"])

    @classmethod
    def expected(cls, shapes: Mapping[str, tuple[int, ...]]) -> Expected:
        """Return the arrays of a model with these parameter shapes."""
        return {f"{cls.PREFIX}{n}": Spec("float32", tuple(s)) for n, s in shapes.items()} | {
            "examples": Spec("int32", (), 0, 2**31 - 1)
        }


def row_ids(dims: Dims) -> Spec:
    """Return the specification of ``dims.rows`` ids of transfer rows.

    >>> row_ids(Dims(rows=2, transfer=5, classes=3, width=4)).high
    4
    """
    return Spec("int32", (dims.rows,), 0, dims.transfer - 1)


def _counts(dims: Dims) -> Spec:
    return Spec("int32", (dims.classes,), 0, 2**31 - 1)
