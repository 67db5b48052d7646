"""What may cross the wire: typed knowledge, its exact encoding, and the checks on both ends.

Knowledge is a handful of named arrays. Both sides know beforehand, from the scenario alone, which
arrays a message must hold and with which dtype, shape and range (:data:`Expected`). Encoding writes
NumPy's ``npy`` format without pickle; decoding compares the payload's length and its whole header
with the only acceptable ones *before* it reads a single value, so nothing that a sender declares is
ever trusted. The same check guards what leaves a client (:func:`encode`).

This module imports nothing else of the project.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

# 1 is the first that is released: what came and went before it, such as the nonce, has no number of its own.
PROTOCOL = 1
"""Version of the messages; a peer that speaks another one is refused."""

LIMIT = 1e4
"""Largest magnitude of a logit or of a prototype's coordinate."""

_SUM_TOLERANCE = 1e-3
_NORM_TOLERANCE = 1e-4
_SHOWN, _LONGEST = 5, 40
_STYPE = "numpy.ndarray"


class Rejected(ValueError):
    """A payload is not what it must be.

    ``reason`` is one word of a fixed set (``names stype dtype shape length header finite range norm sum
    rows protocol run round transfer kind weights replay duplicate unasked``), so that it can be counted;
    ``detail`` is a sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Spec:
    """What one array must be: dtype, exact shape, closed range, and whether its rows sum to one.

    ``simplex`` also accepts rows of zeros where ``empty_rows`` says that a row may be unknown. ``packed``:
    the values cross the wire compressed (zlib's format), so that the bytes depend on them. ``norm``: the
    largest Euclidean length of the whole array, to rounding.
    """

    dtype: str
    shape: tuple[int, ...]
    low: float = -LIMIT
    high: float = LIMIT
    simplex: bool = False
    empty_rows: bool = False
    packed: bool = False
    norm: float | None = None

    @property
    def raw(self) -> int:
        """Size in bytes of the values."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Size in bytes of the encoded array, header included; of a packed one, the largest possible."""
        n = self.raw
        # What zlib's compressBound adds in the worst case.
        more = (n >> 12) + (n >> 14) + (n >> 25) + 13 if self.packed else 0
        return len(_header(self)) + n + more


Expected = Mapping[str, Spec]
"""The arrays of a message: exactly these names, each exactly as specified."""


@dataclass(frozen=True)
class Dims:
    """The sizes that fix the shape of every kind of knowledge.

    ``rows``: number of transfer rows that the message speaks about; ``transfer``: size of the transfer
    set (0: none); ``classes``; ``width``: feature width of the client's model; ``parameters``: the
    shapes of its parameters by name; ``clients``: how many take part in the run.
    """

    rows: int
    transfer: int
    classes: int
    width: int
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    clients: int = 0

    def about(self, rows: int) -> "Dims":
        """Return the sizes of a message about this many rows (0: the whole transfer set)."""
        return replace(self, rows=rows or self.transfer)


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Base of all kinds. Fields are arrays or None; a None field is not sent."""

    kind: ClassVar[str]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to send, by name."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: array for name, array in held.items() if array is not None}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Knowledge":
        """Build the knowledge from its arrays."""
        return cls(**arrays)


@dataclass(frozen=True, eq=False)
class Nothing(Knowledge):
    """A reply without knowledge: the client took part and sent nothing."""

    kind = "nothing"

    @staticmethod
    def expected() -> Expected:
        """Return the empty set of arrays."""
        return {}


@dataclass(frozen=True, eq=False)
class Logits(Knowledge):
    """Predictions on transfer rows.

    ``values`` float32 [rows, classes]: logits, or probabilities whose rows sum to one; ``rows`` int32
    [rows]: the transfer rows that a teacher speaks about (None: the whole set in order);
    ``label_share`` float32 [classes]: share of each class in the sender's data, sent only where a
    strategy is set to ask for it.
    """

    kind = "logits"
    values: NDArray[np.float32]
    rows: NDArray[np.int32] | None = None
    label_share: NDArray[np.float32] | None = None

    @staticmethod
    def expected(
        dims: Dims,
        *,
        probabilities: bool,
        with_rows: bool = False,
        label_share: bool = False,
        selected: bool = False,
    ) -> Expected:
        """Return the arrays of a message about ``dims.rows`` rows.

        ``selected``: rows that the sender leaves out are zeros, of which packing leaves next to nothing.
        """
        shape = (dims.rows, dims.classes)
        found = {
            "values": Spec("float32", shape, 0.0, 1.0, simplex=True, empty_rows=selected, packed=selected)
            if probabilities
            else Spec("float32", shape)
        }
        if with_rows:
            found["rows"] = row_ids(dims)
        if label_share:
            found["label_share"] = Spec("float32", (dims.classes,), 0.0, 1.0, simplex=True)
        return found


@dataclass(frozen=True, eq=False)
class ClassLogits(Knowledge):
    """Mean prediction per true class.

    ``values`` float32 [classes, classes]: row l is the mean softmax over the sender's rows of class l,
    zeros where it has none; ``counts`` int32 [classes]: rows behind each mean (0: unknown).
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

    ``values`` float32 [classes, width], zeros where unknown; ``counts`` int32 [classes].
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
    """

    kind = "quantised"
    values: NDArray[np.unsignedinteger[Any]]
    base: NDArray[np.int32]
    rows: NDArray[np.int32] | None = None

    @staticmethod
    def expected(dims: Dims, *, bits: int, with_rows: bool = False) -> Expected:
        """Return the arrays of a message about ``dims.rows`` rows."""
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
    """Return the specification of ``dims.rows`` ids of transfer rows."""
    return Spec("int32", (dims.rows,), 0, dims.transfer - 1)


def _counts(dims: Dims) -> Spec:
    return Spec("int32", (dims.classes,), 0, 2**31 - 1)


def encode(arrays: Mapping[str, NDArray[Any]], expected: Expected) -> ArrayRecord:
    """Encode arrays for sending; this is also the guard on what leaves a client.

    Raises :class:`Rejected` unless the arrays are exactly the expected ones: a further array, another
    shape or a value out of range never leaves.
    """
    _check_names(arrays, expected)
    record = ArrayRecord()
    for name, spec in expected.items():
        array = np.asarray(arrays[name])
        if array.dtype != np.dtype(spec.dtype):
            raise Rejected("dtype", f"array '{name}' is {array.dtype}; it must be {spec.dtype}.")
        if array.shape != spec.shape:
            raise Rejected("shape", f"array '{name}' has shape {array.shape}; it must be {spec.shape}.")
        _check_values(name, array, spec)
        values = np.ascontiguousarray(array).tobytes()
        data = _header(spec) + (zlib.compress(values, 9) if spec.packed else values)
        record[name] = Array(dtype=spec.dtype, shape=spec.shape, stype=_STYPE, data=data)
    return record


def decode(record: Mapping[str, Array], expected: Expected) -> dict[str, NDArray[Any]]:
    """Decode received arrays, or raise :class:`Rejected` with the reason.

    Order of the checks: names, storage type, declared dtype and shape, byte length, header, and only
    then the values. Nothing is allocated beyond the arrays that were asked for.
    """
    _check_names(record, expected)
    arrays: dict[str, NDArray[Any]] = {}
    for name, spec in expected.items():
        sent = record[name]
        if sent.stype != _STYPE:
            raise Rejected(
                "stype", f"array '{name}' is stored as {sent.stype[:_LONGEST]!r}; it must be {_STYPE!r}."
            )
        if sent.dtype != spec.dtype:
            raise Rejected("dtype", f"array '{name}' is {sent.dtype[:_LONGEST]}; it must be {spec.dtype}.")
        if tuple(sent.shape) != spec.shape:
            shape = str(tuple(sent.shape))[:_LONGEST]
            raise Rejected("shape", f"array '{name}' has shape {shape}; it must be {spec.shape}.")
        if len(sent.data) > spec.nbytes or (len(sent.data) < spec.nbytes and not spec.packed):
            most = "at most " if spec.packed else ""
            raise Rejected(
                "length", f"array '{name}' has {len(sent.data)} bytes; it must have {most}{spec.nbytes}."
            )
        header = _header(spec)
        if sent.data[: len(header)] != header:
            raise Rejected("header", f"array '{name}' has an npy header other than its declared form.")
        values = sent.data[len(header) :]
        if spec.packed:
            values = _unpacked(name, values, spec.raw)
        array = np.frombuffer(values, dtype=spec.dtype).reshape(spec.shape)
        _check_values(name, array, spec)
        arrays[name] = array
    return arrays


def size(record: Mapping[str, Array]) -> int:
    """Return the bytes of an encoded record: what the project counts as exchanged."""
    return sum(len(array.data) for array in record.values())


def _unpacked(name: str, data: bytes, size: int) -> bytes:
    """Decompress to exactly ``size`` bytes: nothing larger is ever allocated, whatever the data says."""
    unpacker = zlib.decompressobj()
    try:
        values = unpacker.decompress(data, size + 1)
    except zlib.error:
        raise Rejected("length", f"array '{name}' cannot be unpacked.") from None
    if len(values) != size or not unpacker.eof or unpacker.unused_data:
        raise Rejected("length", f"array '{name}' unpacks to other than its {size} bytes.")
    return values


def few(names: Iterable[str]) -> str:
    """Return a few names, shortened: what somebody sent must not fill a log."""
    ordered = sorted(names)
    found = str([name[:_LONGEST] for name in ordered[:_SHOWN]])
    return found if len(ordered) <= _SHOWN else f"{found[:-1]}, ...]"


def _check_names(arrays: Mapping[str, Any], expected: Expected) -> None:
    if set(arrays) != set(expected):
        raise Rejected(
            "names",
            f"the message holds the arrays {few(arrays)}; it must hold exactly {sorted(expected)}.",
        )


def _check_values(name: str, array: NDArray[Any], spec: Spec) -> None:
    if array.size == 0:
        return
    # min and max carry NaN and infinity along, so one pass each answers both questions.
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Rejected("finite", f"array '{name}' holds NaN or infinity.")
    if low < spec.low or high > spec.high:
        raise Rejected(
            "range", f"array '{name}' spans [{low}, {high}]; it must stay in [{spec.low}, {spec.high}]."
        )
    if spec.norm is not None:
        length = float(np.linalg.norm(array.astype(np.float64)))
        if length > spec.norm + _NORM_TOLERANCE:
            raise Rejected("norm", f"array '{name}' has length {length}; it must be at most {spec.norm}.")
    if spec.simplex:
        total = array.sum(axis=-1, dtype=np.float64)
        good = np.abs(total - 1.0) <= _SUM_TOLERANCE
        if spec.empty_rows:
            good |= total == 0.0
        if not np.all(good):
            raise Rejected("sum", f"array '{name}' has rows that do not sum to one.")


def _header(spec: Spec) -> bytes:
    """Return the one acceptable ``npy`` 1.0 header (NEP 1) of this specification."""
    descr = np.dtype(spec.dtype).newbyteorder("<").str
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {spec.shape!r}, }}"
    padding = -(10 + len(text) + 1) % 64
    text += " " * padding + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")
