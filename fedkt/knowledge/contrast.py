"""Kinds that hold more than knowledge, for the methods that are kept for contrast: weights with facts about
classes, and features of private rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedkt.knowledge.codec import Expected, Spec
from fedkt.knowledge.kinds import Dims, Knowledge, Weights

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class CountedWeights(Weights):
    """A whole model and how many of the sender's rows are of each class.

    ``counts`` int32 [classes].
    """

    kind = "counted_weights"
    counts: NDArray[np.int32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to send, by name."""
        return super().arrays() | {"counts": self.counts}

    @classmethod
    def expected_of(cls, dims: Dims) -> Expected:
        """Return the arrays of one message."""
        return {**Weights.expected(dims.parameters), "counts": class_counts(dims)}


@dataclass(frozen=True, eq=False)
class GeneratorWeights(Weights):
    """A whole model, a generator of features, and what is needed to use it.

    ``generator``: float32 tensors by parameter name; ``known`` int32 [classes]: 1 where it was taught the
    class; ``round`` int32 []: the round that made it.
    """

    kind = "generator_weights"
    generator: Mapping[str, NDArray[np.float32]]
    known: NDArray[np.int32]
    round: NDArray[np.int32]

    GENERATOR: ClassVar[str] = "generator."

    @classmethod
    def expected_of(cls, dims: Dims, generator: Shapes) -> Expected:
        """Return the arrays of one message; ``generator``: the shapes of its parameters."""
        return {
            **Weights.expected(dims.parameters),
            **{f"{cls.GENERATOR}{n}": Spec("float32", tuple(shape)) for n, shape in generator.items()},
            "known": Spec("int32", (dims.classes,), 0, 1),
            "round": Spec("int32", (), 0, 2**31 - 1),
        }


@dataclass(frozen=True, eq=False)
class HyperKnowledge(Weights):
    """A whole model with each class's mean feature and mean soft prediction (FedHKD).

    ``features`` float32 [classes, width] and ``predictions`` float32 [classes, classes] (rows sum to one),
    both zeros where unknown; ``counts`` int32 [classes]: rows (up) or clients (down) behind each.
    """

    kind = "hyper_knowledge"
    features: NDArray[np.float32]
    predictions: NDArray[np.float32]
    counts: NDArray[np.int32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to send, by name."""
        more = {"features": self.features, "predictions": self.predictions, "counts": self.counts}
        return super().arrays() | more

    @classmethod
    def expected_of(cls, dims: Dims) -> Expected:
        """Return the arrays of one message."""
        square = (dims.classes, dims.classes)
        return {
            **Weights.expected(dims.parameters),
            "features": Spec("float32", (dims.classes, dims.width)),
            "predictions": Spec("float32", square, 0.0, 1.0, simplex=True, empty_rows=True),
            "counts": class_counts(dims),
        }


@dataclass(frozen=True, eq=False)
class FeatureRows(Knowledge):
    """Features, logits and labels of private rows: only for strategies that declare ``features``.

    ``features`` float32 [rows, width]; ``logits`` float32 [rows, classes]; ``labels`` int16 [rows], -1 in
    the rows of zeros that fill a message up to the number of rows that all clients send.
    """

    kind = "feature_rows"
    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[np.int16]

    @staticmethod
    def expected(dims: Dims, rows: int) -> Expected:
        """Return the arrays of a message about ``rows`` private rows."""
        return {
            "features": Spec("float32", (rows, dims.width)),
            "logits": Spec("float32", (rows, dims.classes)),
            "labels": Spec("int16", (rows,), -1, dims.classes - 1),
        }


@dataclass(frozen=True, eq=False)
class ServerLogits(Knowledge):
    """The server's logits of a client's private rows (FedGKT), and its net where the client is to have it.

    ``values`` float32 [rows, classes], zeros in rows that only fill up; ``net``: float32 tensors by
    parameter name.
    """

    kind = "server_logits"
    values: NDArray[np.float32]
    net: Mapping[str, NDArray[np.float32]]

    NET: ClassVar[str] = "net."

    @classmethod
    def expected(cls, dims: Dims, rows: int, net: Shapes) -> Expected:
        """Return the arrays of a message about ``rows`` private rows; ``net``: its parameters' shapes."""
        shapes = {f"{cls.NET}{name}": Spec("float32", tuple(shape)) for name, shape in net.items()}
        return {"values": Spec("float32", (rows, dims.classes)), **shapes}


def class_counts(dims: Dims) -> Spec:
    """Return the specification of a number per class."""
    return Spec("int32", (dims.classes,), 0, 2**31 - 1)
