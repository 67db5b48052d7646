"""Requests and replies: what is packed comes back, and every other message is refused with a reason."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedkt.knowledge import PROTOCOL, Dims, Expected, Logits, Rejected, Spec, encode
from fedkt.knowledge.codec import decode_all, encode_all
from fedkt.knowledge.protocol import MAX_METRICS, Binding, Reply, Request, knowledge_bytes, who_answered

DIMS = Dims(rows=6, transfer=6, classes=3, width=2)
BINDING = Binding("run-1", 4, "abc")
f4, i4 = np.float32, np.int32


def shapes(dims: Dims, with_rows: bool) -> Expected:
    return Logits.expected(dims, probabilities=False, with_rows=with_rows)


EXPECTED = shapes(DIMS, False)
SCORES = np.arange(18, dtype=f4).reshape(6, 3)


def reason_of(step: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as caught:
        step()
    return caught.value.reason


def same(mine: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return set(mine) == set(theirs) and all(np.array_equal(mine[name], theirs[name]) for name in mine)


def request(**more: Any) -> Request:
    rows = np.array([1, 5], i4)
    teacher = {"values": SCORES[:3], "rows": np.array([0, 2, 4], i4)}
    return replace(Request(BINDING, rows, teacher, 3, 2, True), **more)


def reply(**more: Any) -> Reply:
    return replace(Reply(BINDING, "7", arrays={"values": SCORES}, metrics={"personal": 0.5}), **more)


def read_request(content: RecordDict, transfer: str = "abc", dims: Dims = DIMS) -> Request:
    return Request.unpack(content, transfer, dims, shapes)


def read_reply(content: RecordDict, expected: Expected | None = EXPECTED) -> Reply:
    return Reply.unpack(content, BINDING, expected)


def with_entries(content: RecordDict, **entries: Any) -> RecordDict:
    """The message with other entries in its envelope; None takes one away."""
    kept = {k: v for k, v in {**content["fedkt"], **entries}.items() if v is not None}
    content["fedkt"] = ConfigRecord(kept)
    return content


# ---- what is right


@pytest.mark.parametrize(
    "sent",
    [
        request(),
        request(rows=None),
        request(teacher={"values": SCORES}),
        request(rows=None, teacher=None, teacher_round=0, evaluate=False),
        request(rows=np.arange(6, dtype=i4)),
    ],
    ids=["some rows", "all rows", "teacher about all", "bare", "every row by name"],
)
def test_a_request_comes_back(sent: Request) -> None:
    got = read_request(sent.pack(DIMS, shapes))
    assert (got.binding, got.teacher_round, got.kept, got.evaluate) == (
        sent.binding,
        sent.teacher_round,
        sent.kept,
        sent.evaluate,
    )
    assert same({"rows": sent.rows}, {"rows": got.rows})
    assert same(sent.teacher, got.teacher)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (reply(), EXPECTED),
        (reply(metrics={}), EXPECTED),
        (reply(arrays={}), {}),
        (reply(arrays=None), None),
        (reply(status="failed", reason="weights", detail="No.", arrays=None), EXPECTED),
        (reply(status="declined", reason="budget", arrays=None, metrics={}), EXPECTED),
        (reply(metrics={f"m{i}": i / 7 for i in range(MAX_METRICS)}), EXPECTED),
    ],
    ids=["knowledge", "no metrics", "nothing", "evaluate", "failed", "declined", "most metrics"],
)
def test_a_reply_comes_back(sent: Reply, expected: Expected | None) -> None:
    got = read_reply(sent.pack(expected or {}), expected)
    assert replace(got, arrays=None) == replace(sent, arrays=None)
    assert same(sent.arrays, got.arrays)


def test_what_counts_as_exchanged() -> None:
    # rows: header and 2 ids; teacher: 3 x 3 scores and 3 ids
    assert knowledge_bytes(request().pack(DIMS, shapes)) == (128 + 8) + (128 + 36) + (128 + 12)
    assert knowledge_bytes(reply().pack(EXPECTED)) == 128 + 72
    assert knowledge_bytes(reply(arrays=None).pack({})) == 0


# ---- requests that a client refuses

ENTRIES_OF_REQUEST: dict[str, tuple[dict[str, Any], str]] = {
    "other protocol": ({"protocol": PROTOCOL + 1}, "protocol"),
    "protocol as a float": ({"protocol": float(PROTOCOL)}, "protocol"),
    "protocol as a truth value": ({"protocol": True}, "protocol"),
    "no protocol": ({"protocol": None}, "protocol"),
    "other transfer set": ({"transfer": "abd"}, "transfer"),
    "no transfer set": ({"transfer": None}, "transfer"),
    "run of another type": ({"run": 1}, "names"),
    "no run": ({"run": None}, "names"),
    "round of another type": ({"round": "4"}, "names"),
    "round as a truth value": ({"round": True}, "names"),
    "no round": ({"round": None}, "names"),
    "more rows than there are": ({"rows": 7}, "rows"),
    "negative rows": ({"rows": -1}, "rows"),
    "a huge number of rows": ({"rows": 2**62}, "rows"),
    "fewer rows than sent": ({"rows": 1}, "shape"),
    "no rows though some are sent": ({"rows": 0}, "names"),
    "rows of another type": ({"rows": 2.0}, "names"),
    "teacher about more rows than there are": ({"teacher_rows": 7}, "rows"),
    "teacher about negative rows": ({"teacher_rows": -3}, "rows"),
    "teacher about fewer rows": ({"teacher_rows": 2}, "shape"),
    "teacher about all rows": ({"teacher_rows": 0}, "names"),
    "no teacher though one is sent": ({"teacher": False}, "names"),
    "teacher of another type": ({"teacher": 1}, "names"),
    "teacher's round of another type": ({"teacher_round": "3"}, "names"),
    "no oldest round": ({"kept": None}, "names"),
    "evaluate of another type": ({"evaluate": 1}, "names"),
}


@pytest.mark.parametrize("case", list(ENTRIES_OF_REQUEST))
def test_requests_with_other_entries(case: str) -> None:
    entries, reason = ENTRIES_OF_REQUEST[case]
    content = with_entries(request().pack(DIMS, shapes), **entries)
    assert reason_of(lambda: read_request(content)) == reason


def test_a_client_with_another_transfer_set_refuses() -> None:
    assert reason_of(lambda: read_request(request().pack(DIMS, shapes), transfer="xyz")) == "transfer"
    smaller = replace(DIMS, rows=1, transfer=1)
    assert reason_of(lambda: read_request(request().pack(DIMS, shapes), dims=smaller)) == "rows"


@pytest.mark.parametrize("rows", [[0, 6], [-1, 0]])
def test_rows_beyond_the_transfer_set(rows: list[int]) -> None:
    ids = np.array(rows, i4)
    assert reason_of(lambda: request(rows=ids).pack(DIMS, shapes)) == "range"
    content = request().pack(DIMS, shapes)
    content["rows"] = encode({"ids": ids}, {"ids": Spec("int32", (2,), -9, 9)})
    assert reason_of(lambda: read_request(content)) == "range"


@pytest.mark.parametrize("row", [-1, 6])
def test_teachers_beyond_the_transfer_set(row: int) -> None:
    content = request().pack(DIMS, shapes)
    wide = {"values": Spec("float32", (3, 3)), "rows": Spec("int32", (3,), -9, 9)}
    content["knowledge"] = encode({"values": SCORES[:3], "rows": np.array([0, 1, row], i4)}, wide)
    assert reason_of(lambda: read_request(content)) == "range"


def without(content: RecordDict, key: str) -> RecordDict:
    del content[key]
    return content


def with_record(content: RecordDict, key: str, record: Any) -> RecordDict:
    content[key] = record
    return content


RECORDS_OF_REQUEST: dict[str, Callable[[RecordDict], RecordDict]] = {
    "nothing at all": lambda c: RecordDict(),
    "no envelope": lambda c: without(c, "fedkt"),
    "no rows": lambda c: without(c, "rows"),
    "no teacher": lambda c: without(c, "knowledge"),
    "another record": lambda c: with_record(c, "code", ConfigRecord({"run": "this"})),
    "metrics": lambda c: with_record(c, "metrics", MetricRecord({"a": 1.0})),
    "envelope of another kind": lambda c: with_record(c, "fedkt", MetricRecord({"round": 4})),
    "rows of another kind": lambda c: with_record(c, "rows", ConfigRecord({"ids": [1, 5]})),
    "teacher of another kind": lambda c: with_record(c, "knowledge", MetricRecord({"values": [1.0]})),
    "teacher without arrays": lambda c: with_record(c, "knowledge", ArrayRecord()),
}


@pytest.mark.parametrize("case", list(RECORDS_OF_REQUEST))
def test_requests_with_other_records(case: str) -> None:
    content = RECORDS_OF_REQUEST[case](request().pack(DIMS, shapes))
    assert reason_of(lambda: read_request(content)) == "names"


# ---- replies that the server refuses

ENTRIES_OF_REPLY: dict[str, tuple[dict[str, Any], str]] = {
    "other protocol": ({"protocol": PROTOCOL + 1}, "protocol"),
    "no protocol": ({"protocol": None}, "protocol"),
    "other run": ({"run": "run-2"}, "run"),
    "run of another type": ({"run": b"run-1"}, "run"),
    "earlier round": ({"round": 3}, "round"),
    "later round": ({"round": 5}, "round"),
    "round as a float": ({"round": 4.0}, "round"),
    "no round": ({"round": None}, "round"),
    "other transfer set": ({"transfer": ""}, "transfer"),
    "unknown status": ({"status": "rejected"}, "kind"),
    "empty status": ({"status": ""}, "kind"),
    "status of another type": ({"status": 1}, "names"),
    "no status": ({"status": None}, "names"),
    "no client": ({"client": None}, "names"),
    "client of another type": ({"client": 7}, "names"),
    "reason of another type": ({"reason": 0}, "names"),
    "no detail": ({"detail": None}, "names"),
    "failed though it holds knowledge": ({"status": "failed"}, "names"),
    "declined though it holds knowledge": ({"status": "declined"}, "names"),
}


@pytest.mark.parametrize("case", list(ENTRIES_OF_REPLY))
def test_replies_with_other_entries(case: str) -> None:
    entries, reason = ENTRIES_OF_REPLY[case]
    content = with_entries(reply().pack(EXPECTED), **entries)
    assert reason_of(lambda: read_reply(content)) == reason


TWICE = {name: EXPECTED["values"] for name in ("values", "b")}
RECORDS_OF_REPLY: dict[str, tuple[Callable[[RecordDict], RecordDict], str]] = {
    "nothing at all": (lambda c: RecordDict(), "names"),
    "no envelope": (lambda c: without(c, "fedkt"), "names"),
    "no knowledge": (lambda c: without(c, "knowledge"), "names"),
    "another record": (lambda c: with_record(c, "weights", ArrayRecord([SCORES])), "names"),
    "rows": (lambda c: with_record(c, "rows", ArrayRecord()), "names"),
    "envelope of another kind": (lambda c: with_record(c, "fedkt", ArrayRecord()), "names"),
    "knowledge of another kind": (lambda c: with_record(c, "knowledge", ConfigRecord({"v": 1})), "names"),
    "knowledge with an extra array": (
        lambda c: with_record(c, "knowledge", encode({"values": SCORES, "b": SCORES}, TWICE)),
        "names",
    ),
    "metrics of another kind": (lambda c: with_record(c, "metrics", ConfigRecord({"a": "b"})), "names"),
    "arrays as metrics": (lambda c: with_record(c, "metrics", ArrayRecord([SCORES])), "names"),
}


@pytest.mark.parametrize("case", list(RECORDS_OF_REPLY))
def test_replies_with_other_records(case: str) -> None:
    change, reason = RECORDS_OF_REPLY[case]
    content = reply().pack(EXPECTED)
    assert reason_of(lambda: read_reply(change(content))) == reason


def test_knowledge_has_no_place_in_the_reply_to_evaluate() -> None:
    assert reason_of(lambda: read_reply(reply().pack(EXPECTED), None)) == "names"


METRICS: dict[str, tuple[dict[str, Any], str]] = {
    "too many": ({f"m{i}": 0.5 for i in range(MAX_METRICS + 1)}, "names"),
    "a whole number": ({"a": 1}, "finite"),
    "a list": ({"a": [0.5, 0.25]}, "finite"),
    "NaN": ({"a": float("nan")}, "finite"),
    "infinity": ({"a": float("-inf")}, "finite"),
}


@pytest.mark.parametrize("case", list(METRICS))
def test_other_metrics_neither_leave_nor_arrive(case: str) -> None:
    metrics, reason = METRICS[case]
    assert reason_of(lambda: reply(metrics=metrics).pack(EXPECTED)) == reason
    content = with_record(reply().pack(EXPECTED), "metrics", MetricRecord(metrics))
    assert reason_of(lambda: read_reply(content)) == reason


def test_only_the_expected_arrays_leave() -> None:
    assert reason_of(lambda: reply().pack({})) == "names"
    assert reason_of(lambda: reply(arrays={"values": SCORES[:5]}).pack(EXPECTED)) == "shape"
    assert reason_of(lambda: reply(arrays={"values": SCORES, "more": SCORES}).pack(EXPECTED)) == "names"
    assert (
        reason_of(lambda: request(teacher={"values": SCORES, "more": SCORES}).pack(DIMS, shapes)) == "names"
    )


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (RecordDict({"fedkt": ConfigRecord({"client": "3"})}), "3"),
        (RecordDict({"fedkt": ConfigRecord({"client": 3})}), ""),
        (RecordDict({"fedkt": ConfigRecord()}), ""),
        (RecordDict({"fedkt": MetricRecord({"client": 3})}), ""),
        (RecordDict(), ""),
    ],
)
def test_the_name_in_an_answer(content: RecordDict, name: str) -> None:
    assert who_answered(content) == name


NORMED = {"values": Spec("float32", (2, 2), -5.0, 5.0, norm=5.0)}
SIMPLEX = {"values": Spec("float32", (2, 2), 0.0, 1.0, simplex=True, empty_rows=True)}


@pytest.mark.parametrize(
    ("expected", "values", "reason"),
    [
        (NORMED, [[3.0, 0.0], [0.0, 4.0]], None),  # a length of 5
        (NORMED, [[3.0, 0.0], [0.0, 4.001]], "norm"),
        (NORMED, [[3.0, 0.0], [0.0, 4.00001]], None),  # within rounding
        (NORMED, [[5.5, 0.0], [0.0, 0.0]], "range"),
        (NORMED, [[np.nan, 0.0], [0.0, 0.0]], "finite"),
        (NORMED, [[-np.inf, 0.0], [0.0, 0.0]], "finite"),
        (SIMPLEX, [[0.5, 0.5], [0.0, 0.0]], None),
        (SIMPLEX, [[0.5, 0.5], [0.5, 0.0]], "sum"),
    ],
)
def test_what_leaves_or_comes_together_is_checked_as_each_alone(
    expected: Mapping[str, Spec], values: list[list[float]], reason: str | None
) -> None:
    its, fine = np.array(values, np.float32), np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    leaving = encode_all([{"values": fine}, {"values": its}, {"values": fine}], expected)
    assert [getattr(record, "reason", None) for record in leaving] == [None, reason, None]
    by_hand = [
        ArrayRecord({"values": Array("float32", (2, 2), "numpy.ndarray", HEADER_2X2 + array.tobytes())})
        for array in (fine, its, fine)
    ]
    coming = decode_all(by_hand, expected)
    assert [getattr(arrays, "reason", None) for arrays in coming] == [None, reason, None]
    for found in (coming[0], coming[2]):
        assert isinstance(found, dict) and np.array_equal(found["values"], fine)


HEADER_2X2 = (
    b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }".ljust(127) + b"\n"
)
