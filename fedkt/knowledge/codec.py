"""The exact encoding of what crosses the wire, and the checks on both ends.

Knowledge is a handful of named arrays. Both sides know beforehand, from the scenario alone, which
arrays a message must hold and with which dtype, shape and range (:data:`Expected`). Encoding writes
NumPy's ``npy`` format without pickle; decoding compares the payload's length and its whole header
with the only acceptable ones *before* it reads a single value, so nothing that a sender declares is
ever trusted. The same check guards what leaves a client (:func:`encode`).
"""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from torch import Tensor

LIMIT = 1e4
"""Largest magnitude of a logit or of a prototype's coordinate."""

T = TypeVar("T")

_SUM_TOLERANCE = 1e-3
_NORM_TOLERANCE = 1e-4
_SHOWN, _LONGEST = 5, 40
_STYPE = "numpy.ndarray"


class Rejected(ValueError):
    """A payload is not what it must be.

    ``reason`` is one word of a fixed set (``names stype dtype shape length header finite range norm sum
    rows protocol run round transfer kind weights replay duplicate unasked``), so that it can be counted;
    ``detail`` is a sentence.

    >>> Rejected("shape", "array 'values' has shape (2,); it must be (3,).").reason
    'shape'
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
    largest Euclidean length of the whole array, to rounding. ``further``: a function of the array's name and
    the array that raises :class:`Rejected` where it is not what it must be.

    >>> probabilities = Spec("float32", (300, 10), 0.0, 1.0, simplex=True)
    >>> probabilities.raw, probabilities.nbytes
    (12000, 12128)
    """

    dtype: str
    shape: tuple[int, ...]
    low: float = -LIMIT
    high: float = LIMIT
    simplex: bool = False
    empty_rows: bool = False
    packed: bool = False
    norm: float | None = None
    further: Callable[[str, NDArray[Any]], None] | None = None

    @property
    def raw(self) -> int:
        """Size in bytes of the values."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Size in bytes of the encoded array, header included; of a packed one, the largest possible."""
        n = self.raw
        # What zlib's compressBound adds in the worst case.
        more = (n >> 12) + (n >> 14) + (n >> 25) + 13 if self.packed else 0
        return len(_header(self)) + n + more


Expected = Mapping[str, Spec]
"""The arrays of a message: exactly these names, each exactly as specified."""


def encode(arrays: Mapping[str, NDArray[Any]], expected: Expected) -> ArrayRecord:
    """Encode arrays for sending; this is also the guard on what leaves a client.

    Raises :class:`Rejected` unless the arrays are exactly the expected ones: a further array, another
    shape or a value out of range never leaves.

    >>> expected = {"labels": Spec("int16", (2,), -1, 9)}
    >>> size(encode({"labels": np.array([3, 7], np.int16)}, expected))  # a header of 128 bytes, 2 labels of 2
    132
    >>> encode({"labels": np.array([3, 10], np.int16)}, expected)
    Traceback (most recent call last):
    fedkt.knowledge.codec.Rejected: array 'labels' spans [3, 10]; it must stay in [-1, 9].
    """
    return _only(encode_all([arrays], expected))


def encode_all(
    contributions: Sequence[Mapping[str, NDArray[Any]]], expected: Expected
) -> list[ArrayRecord | Rejected]:
    """Encode what several clients send, whose values are checked as one array [clients, ...].

    Returns for each what :func:`encode` would, or the reason for which it would refuse.

    >>> expected = {"labels": Spec("int16", (2,), -1, 9)}
    >>> sent = [{"labels": np.array(labels, np.int16)} for labels in ([3, 7], [3, 10])]
    >>> fine, refused = encode_all(sent, expected)
    >>> size(fine), refused.reason
    (132, 'range')
    """
    records = [ArrayRecord() for _ in contributions]

    def ready(i: int, name: str) -> NDArray[Any]:
        spec, array = expected[name], np.asarray(contributions[i][name])
        if array.dtype != np.dtype(spec.dtype):
            raise Rejected("dtype", f"array '{name}' is {array.dtype}; it must be {spec.dtype}.")
        if array.shape != spec.shape:
            raise Rejected("shape", f"array '{name}' has shape {array.shape}; it must be {spec.shape}.")
        return array

    def keep(i: int, name: str, array: NDArray[Any]) -> None:
        spec, values = expected[name], np.ascontiguousarray(array).tobytes()
        data = _header(spec) + (zlib.compress(values, 9) if spec.packed else values)
        records[i][name] = Array(dtype=spec.dtype, shape=spec.shape, stype=_STYPE, data=data)

    refused = _checked(contributions, expected, ready, keep)
    return [refused.get(i, record) for i, record in enumerate(records)]


def decode(record: Mapping[str, Array], expected: Expected) -> dict[str, NDArray[Any]]:
    """Decode received arrays, or raise :class:`Rejected` with the reason.

    Order of the checks: names, storage type, declared dtype and shape, byte length, header, and only
    then the values. Nothing is allocated beyond the arrays that were asked for.

    >>> expected = {"labels": Spec("int16", (2,), -1, 9)}
    >>> decode(encode({"labels": np.array([3, 7], np.int16)}, expected), expected)
    {'labels': array([3, 7], dtype=int16)}
    """
    return _only(decode_all([record], expected))


def decode_all(
    records: Sequence[Mapping[str, Array]], expected: Expected
) -> list[dict[str, NDArray[Any]] | Rejected]:
    """Decode what several clients sent, whose values are checked as one array [clients, ...].

    Returns for each what :func:`decode` would, or the reason for which it would refuse: that one is bad
    changes nothing for the others.

    >>> expected = {"labels": Spec("int16", (2,), -1, 9)}
    >>> record = encode({"labels": np.array([3, 7], np.int16)}, expected)
    >>> fine, refused = decode_all([record, {}], expected)
    >>> fine["labels"].tolist(), refused.reason
    ([3, 7], 'names')
    """
    found: list[dict[str, NDArray[Any]]] = [{} for _ in records]
    refused = _checked(
        records,
        expected,
        lambda i, name: _formed(name, records[i][name], expected[name]),
        lambda i, name, array: found[i].__setitem__(name, array),
    )
    return [refused.get(i, arrays) for i, arrays in enumerate(found)]


def _formed(name: str, sent: Array, spec: Spec) -> NDArray[Any]:
    """Return a received array, whose values are not checked yet."""
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
    if spec.packed:
        return np.frombuffer(_unpacked(name, sent.data[len(header) :], spec.raw), spec.dtype).reshape(
            spec.shape
        )
    return np.frombuffer(sent.data, spec.dtype, offset=len(header)).reshape(spec.shape)


def _checked(
    messages: Sequence[Mapping[str, Any]],
    expected: Expected,
    ready: Callable[[int, str], NDArray[Any]],
    keep: Callable[[int, str, NDArray[Any]], None],
) -> dict[int, Rejected]:
    """Check messages array by array, those of all clients together; return why some are refused.

    ``ready(i, name)`` returns an array of message i, or raises what is wrong with its form; ``keep`` is
    told of each that is good.
    """
    refused: dict[int, Rejected] = {}

    def attempt(i: int, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except Rejected as error:
            refused[i] = error
            return None

    for i, message in enumerate(messages):
        attempt(i, partial(_check_names, message, expected))
    for name, spec in expected.items():
        arrays = {
            i: array
            for i in range(len(messages))
            if i not in refused and (array := attempt(i, partial(ready, i, name))) is not None
        }
        for i in _suspects(arrays, spec):
            attempt(i, partial(_check_values, name, arrays[i], spec))
        for i, array in arrays.items():
            if i not in refused:
                keep(i, name, array)
    return refused


def _only(found: Sequence[T | Rejected]) -> T:
    """Return the only one; raise it where it is refused."""
    if isinstance(found[0], Rejected):
        raise found[0]
    return found[0]


def _suspects(arrays: Mapping[int, NDArray[Any]], spec: Spec) -> list[int]:
    """Return which of equally shaped arrays may break the specification: they are looked at one by one.

    All are looked at as one array [clients, ...]; one that is good may be among those that are returned.
    """
    if len(arrays) < 2 or not spec.raw or spec.further is not None:
        return list(arrays)
    stacked = np.stack(list(arrays.values()))
    rows = stacked.reshape(len(arrays), -1)
    # NaN is in no range.
    fine = (rows.min(1) >= spec.low) & (rows.max(1) <= spec.high)
    if spec.norm is not None:
        fine &= np.linalg.norm(rows.astype(np.float64), axis=1) <= spec.norm
    if spec.simplex:
        with np.errstate(invalid="ignore"):  # infinities of both signs
            total = stacked.sum(axis=-1, dtype=np.float64).reshape(len(arrays), -1)
        good = np.abs(total - 1.0) <= _SUM_TOLERANCE
        fine &= ((good | (total == 0.0)) if spec.empty_rows else good).all(1)
    return [i for i, good_one in zip(arrays, fine.tolist(), strict=True) if not good_one]


def size(record: Mapping[str, Array]) -> int:
    """Return the bytes of an encoded record: what the project counts as exchanged.

    >>> size(encode({"examples": np.array(30, np.int32)}, {"examples": Spec("int32", (), 0, 99)}))
    132
    """
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
    """Return a few names, shortened: what somebody sent must not fill a log.

    >>> few("gfedcba")
    "['a', 'b', 'c', 'd', 'e', ...]"
    """
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
    if spec.further is not None:
        spec.further(name, array)


def _header(spec: Spec) -> bytes:
    """Return the one acceptable ``npy`` 1.0 header (NEP 1) of this specification."""
    return _header_of(spec.dtype, spec.shape)


@lru_cache(maxsize=256)
def _header_of(dtype: str, shape: tuple[int, ...]) -> bytes:
    descr = np.dtype(dtype).newbyteorder("<").str
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}"
    padding = -(10 + len(text) + 1) % 64
    text += " " * padding + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def alike_in_size(arrays: Mapping[str, Any], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's tensors that have as many values as one of the arrays [...]: it could hold them.

    >>> from torch import ones
    >>> list(alike_in_size({"values": np.zeros((3, 2))}, {"head.weight": ones(2, 3), "head.bias": ones(2)}))
    ['head.weight']
    """
    sizes = {int(np.prod(array.shape)) for array in arrays.values()}
    return {name: tensor for name, tensor in model.items() if tensor.numel() in sizes}


def refuse_weights(arrays: Mapping[str, NDArray[Any]], model: Mapping[str, Tensor]) -> None:
    """Raise :class:`Rejected` if an outgoing array holds the values of one of the model's tensors.

    In any order, so that a transposed or shuffled tensor is found too; not a part of one, nor a function.

    >>> from torch import tensor
    >>> refuse_weights({"values": np.array([2.0, 1.0], np.float32)}, {"head.bias": tensor([1.0, 2.0])})
    Traceback (most recent call last):
        ...
    fedkt.knowledge.codec.Rejected: array 'values' holds the model's 'head.bias'; weights may not leave.
    """
    for name, array in arrays.items():
        if array.dtype.kind != "f" or array.size < 2:
            continue  # nothing but floats can be a tensor; other kinds than the declared one never leave
        for key, tensor in model.items():
            if tensor.numel() == array.size:
                values = tensor.cpu().numpy()
                if np.array_equal(np.sort(values, axis=None), np.sort(array, axis=None)):
                    raise Rejected(
                        "weights", f"array '{name}' holds the model's '{key}'; weights may not leave."
                    )
