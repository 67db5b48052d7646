"""What crosses the wire: exact encodings, and a reason for everything that is refused."""

import io
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkt.knowledge import (
    LIMIT,
    ClassLogits,
    Dims,
    Expected,
    Knowledge,
    Logits,
    Nothing,
    Prototypes,
    PrototypeSets,
    Quantised,
    Rejected,
    Spec,
    Votes,
    Weights,
    decode,
    encode,
    row_ids,
    size,
)

PARAMETERS = {"features.1.weight": (2, 5), "head.bias": (3,), "scale": ()}
DIMS = Dims(rows=4, transfer=6, classes=3, width=2, parameters=PARAMETERS, clients=2)

f4, i4, i2, u1 = np.float32, np.int32, np.int16, np.uint8
SCORES = np.array([[1, -2, 3], [0, 0, 0], [LIMIT, -LIMIT, 0.1], [1e-30, 2, 3]], f4)
CHANCES = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.1, 0.1, 0.8], [0, 0.5, 0.5]], f4)
ROWS = np.array([0, 2, 3, 5], i4)
COUNTS = np.array([7, 0, 2**31 - 1], i4)
TABLE = np.array([[0.2, 0.3, 0.5], [0, 0, 0], [0, 0, 1]], f4)
TENSORS = {name: np.full(shape, i + 0.5, f4) for i, (name, shape) in enumerate(PARAMETERS.items())}

KINDS: dict[str, tuple[Knowledge, Expected]] = {
    "logits": (Logits(SCORES), Logits.expected(DIMS, probabilities=False)),
    "logits-rows": (Logits(SCORES, ROWS), Logits.expected(DIMS, probabilities=False, with_rows=True)),
    "probabilities": (
        Logits(CHANCES, None, np.array([0.25, 0, 0.75], f4)),
        Logits.expected(DIMS, probabilities=True, label_share=True),
    ),
    "class-logits": (ClassLogits(TABLE, COUNTS), ClassLogits.expected(DIMS)),
    "prototypes": (
        Prototypes(np.array([[1, -2], [0, 0], [LIMIT, 3]], f4), COUNTS),
        Prototypes.expected(DIMS),
    ),
    "prototype-sets": (
        PrototypeSets(np.full((2, 3, 2), -3, f4), np.stack([COUNTS, COUNTS])),
        PrototypeSets.expected(DIMS),
    ),
    "quantised": (Quantised(np.array([0, 2, 2, 1], u1), np.array(3, i4)), Quantised.expected(DIMS, bits=1)),
    "quantised-rows": (
        Quantised(np.array([[0, 3, 0], [1, 1, 1], [3, 0, 0], [2, 0, 1]], u1), np.array(0, i4), ROWS),
        Quantised.expected(DIMS, bits=2, with_rows=True),
    ),
    "votes": (Votes(np.array([0, -1, 2, 1], i2)), Votes.expected(DIMS)),
    "votes-rows": (Votes(np.array([0, -1, 2, 1], i2), ROWS), Votes.expected(DIMS, with_rows=True)),
    "weights": (Weights(TENSORS, np.array(12, i4)), Weights.expected(PARAMETERS)),
    "nothing": (Nothing(), Nothing.expected()),
    "no-rows": (
        Logits(np.zeros((0, 3), f4), np.zeros(0, i4)),
        Logits.expected(replace(DIMS, rows=0), probabilities=True, with_rows=True),
    ),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    """The file that NumPy itself writes."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version, allow_pickle=True)
    return out.getvalue()


def fit(data: bytes, length: int) -> bytes:
    """Cut or pad a payload to a length, so that nothing but its content can give it away."""
    return data[:length].ljust(length, b"\0")


def reason_of(step: Callable[[], object]) -> str:
    """The reason with which a step is refused; fails where it is not."""
    with pytest.raises(Rejected) as caught:
        step()
    assert caught.value.detail.endswith(".")
    return caught.value.reason


# ---- what is right


@every_kind
def test_round_trip(kind: str) -> None:
    knowledge, expected = KINDS[kind]
    sent = knowledge.arrays()
    back = decode(encode(sent, expected), expected)
    assert list(back) == list(expected)
    for name, array in back.items():
        assert array.dtype == sent[name].dtype == expected[name].dtype
        assert array.shape == sent[name].shape == expected[name].shape
        assert array.tobytes() == sent[name].tobytes()
    again = type(knowledge).of(back).arrays()
    assert set(again) == set(sent)
    assert all(np.array_equal(again[name], sent[name]) for name in sent)


@every_kind
def test_numpy_reads_the_payload(kind: str) -> None:
    knowledge, expected = KINDS[kind]
    for name, array in encode(knowledge.arrays(), expected).items():
        spec = expected[name]
        head = replace(spec, packed=False).nbytes - spec.raw
        values = array.data[head:]
        stream = io.BytesIO(array.data[:head] + (zlib.decompress(values) if spec.packed else values))
        read = np.load(stream, allow_pickle=False)
        assert stream.read() == b""
        assert read.dtype.str == np.dtype(expected[name].dtype).newbyteorder("<").str
        assert read.shape == expected[name].shape
        assert read.tobytes() == knowledge.arrays()[name].tobytes()
        assert (array.dtype, tuple(array.shape), array.stype) == (
            str(read.dtype),
            read.shape,
            "numpy.ndarray",
        )


@every_kind
def test_the_size_is_known_before(kind: str) -> None:
    knowledge, expected = KINDS[kind]
    record = encode(knowledge.arrays(), expected)
    for name, array in record.items():
        spec = expected[name]
        assert len(array.data) < spec.nbytes if spec.packed else len(array.data) == spec.nbytes
    assert size(record) == sum(len(array.data) for array in record.values())


def test_sizes_by_hand() -> None:
    # 10 bytes of magic and a text with padding to a multiple of 64, then the values.
    assert Spec("float32", (4, 3)).nbytes == 128 + 48
    assert Spec("int16", (4,)).nbytes == 128 + 8
    assert Spec("int32", ()).nbytes == 128 + 4
    assert Spec("float32", (0, 3)).nbytes == 128


def test_any_memory_order_is_sent_in_c_order() -> None:
    expected = {"values": Spec("float32", (4, 3))}
    for array in (np.asfortranarray(SCORES), np.repeat(SCORES, 2, axis=0)[::2]):
        assert not array.flags["C_CONTIGUOUS"]
        assert np.array_equal(decode(encode({"values": array}, expected), expected)["values"], SCORES)


def test_the_sizes_of_a_message_about_some_rows() -> None:
    assert DIMS.about(2).rows == 2
    assert DIMS.about(0).rows == 6
    assert row_ids(DIMS.about(2)) == Spec("int32", (2,), 0, 5)


# ---- what is refused on arrival: a record, good but for one thing

ONE = {"values": Spec("float32", (4, 3))}
GOOD = encode({"values": SCORES}, ONE)["values"]
LENGTH = len(GOOD.data)


class Bomb:
    """Goes off when it is unpickled."""

    went_off = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "went_off", True)


def objects() -> bytes:
    array = np.empty(1, object)
    array[0] = Bomb()
    return npy(array)


def archive() -> bytes:
    out = io.BytesIO()
    np.savez(out, values=SCORES)
    return out.getvalue()


def replaced(old: bytes, new: bytes) -> Array:
    """The good array with another text in its header, of the same length."""
    assert GOOD.data.count(old) == 1
    grown = len(new) - len(old)
    head, body = GOOD.data[:-48].replace(old, new), GOOD.data[-48:]
    head = head[:-1].rstrip(b" ") if grown > 0 else head[:-1]
    return replace(GOOD, data=head.ljust(LENGTH - 49) + b"\n" + body)


def given_as(data: bytes, **more: Any) -> dict[str, Array]:
    return {"values": replace(GOOD, data=data, **more)}


REFUSED: dict[str, tuple[dict[str, Array], str]] = {
    "missing name": ({}, "names"),
    "other name": ({"logits": GOOD}, "names"),
    "extra name": ({"values": GOOD, "more": GOOD}, "names"),
    "stype": ({"values": replace(GOOD, stype="torch.Tensor")}, "stype"),
    "no stype": ({"values": replace(GOOD, stype="")}, "stype"),
    "declares another dtype": ({"values": replace(GOOD, dtype="float64")}, "dtype"),
    "dtype by another name": ({"values": replace(GOOD, dtype="<f4")}, "dtype"),
    "declares big-endian": ({"values": replace(GOOD, dtype=">f4")}, "dtype"),
    "declares unicode": ({"values": replace(GOOD, dtype="<U1")}, "dtype"),
    "declares objects": ({"values": replace(GOOD, dtype="object")}, "dtype"),
    "dtype lie, longer": (given_as(npy(SCORES.astype(np.float64))), "length"),
    "dtype lie, same length": (given_as(fit(npy(SCORES.astype(i4)), LENGTH)), "header"),
    "dtype lie in the header alone": ({"values": replaced(b"'<f4'", b"'<i4'")}, "header"),
    "declares another shape": ({"values": replace(GOOD, shape=(3, 4))}, "shape"),
    "declares fewer dimensions": ({"values": replace(GOOD, shape=(12,))}, "shape"),
    "declares no rows": ({"values": replace(GOOD, shape=(0, 3), data=npy(np.zeros((0, 3), f4)))}, "shape"),
    "declares a negative shape": ({"values": replace(GOOD, shape=(-4, -3))}, "shape"),
    "declares a huge shape": ({"values": replace(GOOD, shape=(2**40, 2**40))}, "shape"),
    "shape lie": ({"values": replaced(b"(4, 3)", b"(3, 4)")}, "header"),
    "shape lie, no rows": ({"values": replaced(b"(4, 3)", b"(0, 3)")}, "header"),
    "shape lie, huge": ({"values": replaced(b"(4, 3)", b"(1099511627776, 1099511627776)")}, "header"),
    "zero-size": (given_as(npy(np.zeros((0, 3), f4))), "length"),
    "empty": (given_as(b""), "length"),
    "truncated": (given_as(GOOD.data[:-1]), "length"),
    "header only": (given_as(GOOD.data[:-48]), "length"),
    "trailing byte": (given_as(GOOD.data + b"\0"), "length"),
    "fortran order": ({"values": replaced(b"'fortran_order': False", b"'fortran_order': True ")}, "header"),
    "fortran order by numpy": (given_as(fit(npy(np.asfortranarray(SCORES)), LENGTH)), "header"),
    "header version 2": (given_as(npy(SCORES, (2, 0))), "header"),
    "header version 3": (given_as(npy(SCORES, (3, 0))), "header"),
    "header length": (given_as(GOOD.data[:8] + b"\xff\xff" + GOOD.data[10:]), "header"),
    "magic": (given_as(b"\x93NUMPZ" + GOOD.data[6:]), "header"),
    "objects": (given_as(objects()), "length"),
    "objects, same length": (given_as(fit(objects(), LENGTH)), "header"),
    "archive": (given_as(archive()), "length"),
    "archive, same length": (given_as(fit(archive(), LENGTH)), "header"),
    "big-endian": (given_as(fit(npy(SCORES.astype(">f4")), LENGTH)), "header"),
    "unicode": ({"values": replaced(b"'<f4'", b"'<U1'")}, "header"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused_on_arrival(case: str) -> None:
    record, reason = REFUSED[case]
    if reason == "header":
        assert len(record["values"].data) == LENGTH  # its length does not give it away
    tracemalloc.start()
    try:
        assert reason_of(lambda: decode(record, ONE)) == reason
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # whatever was declared, nothing was allocated for it
    assert not Bomb.went_off


def test_the_good_record_is_good() -> None:
    assert np.array_equal(decode({"values": GOOD}, ONE)["values"], SCORES)
    assert replaced(b"(4, 3)", b"(4, 3)") == GOOD


# ---- what is refused for its values, when it is sent and on arrival

CHANCE = Logits.expected(DIMS, probabilities=True)["values"]
SCORE = Logits.expected(DIMS, probabilities=False)["values"]
OWN_TABLE, COUNT = ClassLogits.expected(DIMS)["values"], ClassLogits.expected(DIMS)["counts"]
SHARE = Logits.expected(DIMS, probabilities=True, label_share=True)["label_share"]
VOTE = Votes.expected(DIMS)["labels"]
VECTOR = Prototypes.expected(DIMS)["values"]
EXAMPLES = Weights.expected({})["examples"]


def changed(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    copy = array.copy()
    copy[place] = value
    return copy


JUST_OVER = float(np.nextafter(f4(LIMIT), f4(np.inf)))
BAD_VALUES: dict[str, tuple[np.ndarray, Spec, str]] = {
    "NaN": (changed(SCORES, (3, 2), np.nan), SCORE, "finite"),
    "infinity": (changed(SCORES, (0, 0), np.inf), SCORE, "finite"),
    "minus infinity": (changed(SCORES, (0, 0), -np.inf), SCORE, "finite"),
    "NaN probability": (changed(CHANCES, (0, 0), np.nan), CHANCE, "finite"),
    "NaN share": (np.full(3, np.nan, f4), SHARE, "finite"),
    "NaN prototype": (np.full((3, 2), np.nan, f4), VECTOR, "finite"),
    "infinity in the weights": (np.full((2, 5), np.inf, f4), Spec("float32", (2, 5)), "finite"),
    "logit too high": (changed(SCORES, (1, 1), JUST_OVER), SCORE, "range"),
    "logit too low": (changed(SCORES, (1, 1), -JUST_OVER), SCORE, "range"),
    "prototype too far": (np.full((3, 2), JUST_OVER, f4), VECTOR, "range"),
    "negative probability": (changed(CHANCES, 0, [-0.1, 0.6, 0.5]), CHANCE, "range"),
    "probability over one": (changed(CHANCES, 0, 1.001), CHANCE, "range"),
    "rows sum to more": (changed(CHANCES, (1, 1), 0.002), CHANCE, "sum"),
    "rows sum to less": (changed(CHANCES, (1, 0), 0.998), CHANCE, "sum"),
    "one row of zeros": (changed(CHANCES, 2, 0), CHANCE, "sum"),
    "table's row sums to half": (changed(TABLE, 1, [0.5, 0, 0]), OWN_TABLE, "sum"),
    "shares sum to more": (np.array([0.5, 0.5, 0.5], f4), SHARE, "sum"),
    "negative count": (changed(COUNTS, 0, -1), COUNT, "range"),
    "negative number of examples": (np.array(-1, i4), EXAMPLES, "range"),
    "vote below abstention": (np.array([0, -2, 1, 1], i2), VOTE, "range"),
    "vote for no class": (np.array([0, 3, 1, 1], i2), VOTE, "range"),
    "negative row": (changed(ROWS, 0, -1), row_ids(DIMS), "range"),
    "row beyond the set": (changed(ROWS, 3, 6), row_ids(DIMS), "range"),
}


@pytest.mark.parametrize("case", list(BAD_VALUES))
def test_refused_for_its_values(case: str) -> None:
    array, spec, reason = BAD_VALUES[case]
    expected = {"a": spec}
    assert (str(array.dtype), array.shape) == (spec.dtype, spec.shape)
    assert reason_of(lambda: encode({"a": array}, expected)) == reason
    free = encode({"a": np.zeros(spec.shape, spec.dtype)}, {"a": Spec(spec.dtype, spec.shape)})["a"]
    data = free.data[: len(free.data) - array.nbytes] + array.tobytes()
    assert reason_of(lambda: decode({"a": replace(free, data=data)}, expected)) == reason


NOT_TO_SEND: dict[str, tuple[dict[str, Any], str]] = {
    "missing name": ({}, "names"),
    "extra name": ({"values": SCORES, "weight": np.zeros(3, f4)}, "names"),
    "dtype": ({"values": SCORES.astype(np.float64)}, "dtype"),
    "big-endian": ({"values": SCORES.astype(">f4")}, "dtype"),
    "unicode": ({"values": SCORES.astype(str)}, "dtype"),
    "objects": ({"values": SCORES.astype(object)}, "dtype"),
    "shape": ({"values": SCORES.T}, "shape"),
    "more rows": ({"values": np.zeros((5, 3), f4)}, "shape"),
    "no rows": ({"values": np.zeros((0, 3), f4)}, "shape"),
}


@pytest.mark.parametrize("case", list(NOT_TO_SEND))
def test_refused_to_send(case: str) -> None:
    arrays, reason = NOT_TO_SEND[case]
    assert reason_of(lambda: encode(arrays, ONE)) == reason


def test_a_none_is_not_sent_and_missed_where_it_is_wanted() -> None:
    assert set(Logits(SCORES).arrays()) == {"values"}
    wanted = Logits.expected(DIMS, probabilities=False, with_rows=True)
    assert reason_of(lambda: encode(Logits(SCORES).arrays(), wanted)) == "names"


# ---- mutations


def within(array: np.ndarray, spec: Spec) -> bool:
    """Whether an array is what its specification says, checked value by value."""
    assert (str(array.dtype), array.shape) == (spec.dtype, spec.shape)
    flat = [float(value) for value in array.ravel()]
    good = all(spec.low <= value <= spec.high for value in flat)  # false for NaN
    if spec.simplex:
        sums = [sum(map(float, row)) for row in array.reshape(-1, array.shape[-1])]
        good &= all(abs(s - 1) <= 1.001e-3 or (spec.empty_rows and s == 0) for s in sums)
    return good


edits = st.lists(
    st.tuples(
        st.sampled_from(("set", "flip", "insert", "delete", "swap")),
        st.integers(0, 400),
        st.integers(0, 255),
    ),
    max_size=6,
)


def mutate(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    out = bytearray(data)
    for change, place, value in changes:
        at = place % max(len(out), 1)
        if change == "insert":
            out.insert(at, value)
        elif not out:
            continue
        elif change == "delete":
            del out[at]
        elif change == "swap":
            out[at], out[-1 - at] = out[-1 - at], out[at]
        else:
            out[at] = value if change == "set" else out[at] ^ (1 << value % 8)
    return bytes(out)


@settings(max_examples=600, deadline=None)
@given(kind=st.sampled_from(sorted(set(KINDS) - {"nothing"})), pick=st.integers(0, 9), changes=edits)
def test_mutated_payloads_are_within_the_specification_or_refused(
    kind: str, pick: int, changes: list[tuple[str, int, int]]
) -> None:
    knowledge, expected = KINDS[kind]
    record = encode(knowledge.arrays(), expected)
    name = list(expected)[pick % len(expected)]
    data = mutate(record[name].data, changes)
    head = len(data) - int(np.prod(expected[name].shape)) * np.dtype(expected[name].dtype).itemsize
    untouched = data[:head] == record[name].data[:head]
    sent = ArrayRecord({n: replace(a, data=data) if n == name else a for n, a in record.items()})
    try:
        back = decode(sent, expected)
    except Rejected as error:
        values = {"finite", "range", "sum"}
        assert error.reason in ("length", "header", *values)
        assert error.reason not in values or untouched
        return
    assert all(within(back[n], spec) for n, spec in expected.items())
    if expected[name].packed:
        assert len(data) <= expected[name].nbytes  # the same labels can be packed in several ways
        return
    assert len(data) == expected[name].nbytes
    assert untouched
    assert back[name].tobytes() == data[head:]


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(("logits", "probabilities", "class-logits", "votes-rows")),
    pick=st.integers(0, 1),
    body=st.binary(min_size=64, max_size=64),
)
def test_any_values_are_within_the_specification_or_refused(kind: str, pick: int, body: bytes) -> None:
    knowledge, expected = KINDS[kind]
    record = encode(knowledge.arrays(), expected)
    name = list(expected)[pick % len(expected)]
    spec = expected[name]
    length = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    array = np.frombuffer(body[:length], spec.dtype).reshape(spec.shape)
    record[name] = replace(record[name], data=record[name].data[:-length] + body[:length])
    try:
        decode(record, expected)
    except Rejected as error:
        assert error.reason in ("finite", "range", "sum")
        assert not within(array, spec)
    else:
        assert within(array, spec)


@settings(max_examples=300, deadline=None)
@given(
    dtype=st.text(max_size=8) | st.sampled_from(("float32", "float64", "int32", "|O", "<f4")),
    shape=st.lists(st.integers(-(2**62), 2**62), max_size=3) | st.just([4, 3]),
    stype=st.text(max_size=16) | st.just("numpy.ndarray"),
    data=st.binary(max_size=300) | st.just(GOOD.data),
)
def test_any_declaration_is_the_right_one_or_refused(
    dtype: str, shape: list[int], stype: str, data: bytes
) -> None:
    sent = Array(dtype=dtype, shape=tuple(shape), stype=stype, data=data)
    if sent == GOOD:
        decode({"values": sent}, ONE)
    else:
        assert reason_of(lambda: decode({"values": sent}, ONE)) in (
            "stype",
            "dtype",
            "shape",
            "length",
            "header",
            "finite",
            "range",
        )


PACKED = Quantised.expected(replace(DIMS, rows=1000), bits=1)
LABELS = np.arange(1000, dtype=u1) % 3


def packed(values: bytes) -> dict[str, Array]:
    """A message whose labels are these bytes after their header."""
    record = dict(encode({"values": LABELS, "base": np.array(0, i4)}, PACKED))
    header = len(record["values"].data) - len(zlib.compress(LABELS.tobytes(), 9))
    sent = record["values"]
    data = sent.data[:header] + values
    return {**record, "values": Array(dtype=sent.dtype, shape=sent.shape, stype=sent.stype, data=data)}


def test_packed_labels_are_the_smaller_the_more_alike_they_are() -> None:
    def sent(labels: np.ndarray) -> int:
        record = encode({"values": labels, "base": np.array(0, i4)}, PACKED)
        assert np.array_equal(decode(record, PACKED)["values"], labels)
        return len(record["values"].data)

    few = np.zeros(1000, u1)
    few[::100] = 1
    random = np.random.default_rng(0).integers(0, 3, 1000).astype(u1)
    # 128 bytes of header; at least log2(3) = 1.58 bits a label where labels are random.
    assert sent(np.zeros(1000, u1)) < sent(few) < 128 + 60
    assert 128 + 1000 * 1.58 / 8 < sent(random) < 128 + 1000 * 2.5 / 8
    assert sent(random) <= PACKED["values"].nbytes


@pytest.mark.parametrize(
    "values",
    [
        b"",
        b"no zlib data",
        zlib.compress(LABELS.tobytes())[:-1],
        zlib.compress(LABELS.tobytes()) + b"more",
        zlib.compress(LABELS[:-1].tobytes()),
        zlib.compress(LABELS.tobytes() + b"\0"),
        zlib.compress(bytes(50_000_000)),
    ],
)
def test_what_does_not_unpack_to_the_labels_is_refused(values: bytes) -> None:
    message = packed(values)
    tracemalloc.start()
    assert reason_of(lambda: decode(message, PACKED)) == "length"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Fifty megabytes of zeros are fifty kilobytes that were sent; they are never unpacked.
    assert peak < 1_000_000


def test_unpacked_labels_are_checked() -> None:
    assert (
        reason_of(lambda: decode(packed(zlib.compress(LABELS.tobytes()[:-1] + b"\x03")), PACKED)) == "range"
    )
