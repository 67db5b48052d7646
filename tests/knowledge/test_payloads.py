"""Every bad payload of the corpus is refused with its reason; mutations are refused or are as declared."""

import contextlib
import copy
import tracemalloc
from collections.abc import Callable

import pytest
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Proto  # pylint: disable=no-name-in-module
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkt.knowledge import Dims, Logits, Rejected
from fedkt.knowledge.protocol import Reply, knowledge_bytes, round_of
from tests.knowledge import payloads

GOOD = payloads.payload()


def reason_of(step: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as caught:
        step()
    # It goes into a log and a table: a line, whatever was sent.
    assert len(caught.value.detail) < 1000
    assert "\n" not in caught.value.detail
    return caught.value.reason


def test_the_corpus_is_large_enough() -> None:
    assert len(payloads.BAD) >= 60


def test_the_good_reply_is_accepted() -> None:
    assert payloads.holds(payloads.unpack(payloads.good()))


@pytest.mark.parametrize("name", list(payloads.BAD))
def test_a_bad_reply_is_refused_with_its_reason(name: str) -> None:
    change, reason = payloads.BAD[name]
    content = payloads.good()
    change(content)
    knowledge_bytes(content)  # what the server does before it looks closer must not fail either
    round_of(content)
    assert reason_of(lambda: payloads.unpack(content)) == reason


@pytest.mark.parametrize("name", list(payloads.BAD))
def test_a_bad_reply_among_good_ones_is_refused_as_it_is_alone_and_costs_no_other(name: str) -> None:
    change, _ = payloads.BAD[name]
    bad = payloads.good()
    change(bad)
    alone, many = (
        Reply.unpack_all(contents, [payloads.BINDING] * len(contents), [payloads.EXPECTED] * len(contents))
        for contents in ([bad], [payloads.good(), bad, payloads.good()])
    )
    assert isinstance(alone[0], Rejected) and isinstance(many[1], Rejected)
    assert (many[1].reason, many[1].detail) == (alone[0].reason, alone[0].detail)
    for reply in (many[0], many[2]):
        assert isinstance(reply, Reply) and payloads.holds(reply)


def test_refusing_takes_no_memory() -> None:
    """Peak over the corpus, beyond the message itself: below twice the cap of a usual message."""
    # 1000 rows of 10 classes.
    cap = Logits.expected(Dims(1000, 1000, 10, 2), probabilities=True)["values"].nbytes
    contents = []
    for change, _ in payloads.BAD.values():
        contents.append(payloads.good())
        change(contents[-1])
    taken = []
    tracemalloc.start()
    for content in contents:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with pytest.raises(Rejected):
            payloads.unpack(content)
        taken.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert max(taken) < 2 * cap


def survives(step: Callable[[], object]) -> None:
    """Either it is refused in order, or what comes out is what was declared."""
    try:
        found = step()
    except Rejected:
        return
    assert found is None or payloads.holds(found)  # type: ignore[arg-type]


edits = st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(edits, st.integers(-20, 20), st.binary(max_size=64))
def test_mutated_bytes(edits: list[tuple[int, int]], change: int, more: bytes) -> None:
    data = bytearray(GOOD)
    for at, value in edits:
        data[at] = value
    data = data[: len(data) + change] if change < 0 else data + more[:change]
    content = payloads.good()
    payloads.put(bytes(data))(content)
    survives(lambda: payloads.unpack(content))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(payloads.BAD)), st.sampled_from(list(payloads.BAD)), st.binary(max_size=200))
def test_two_things_wrong_at_once(first: str, second: str, data: bytes) -> None:
    content = payloads.good()
    for change, _ in (payloads.BAD[first], payloads.BAD[second], (payloads.put(data), "")):
        with contextlib.suppress(KeyError):  # the first may have taken away what the second changes
            change(content)
    with pytest.raises(Rejected):
        payloads.unpack(content)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_messages(data: st.DataObject) -> None:
    """The whole message as it crosses the wire; what Flower itself cannot read never reaches fedkt."""
    raw = bytearray(recorddict_to_proto(payloads.good()).SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        content = recorddict_from_proto(Proto.FromString(bytes(raw)))
    except Exception:
        return
    knowledge_bytes(content)
    round_of(content)
    survives(lambda: payloads.unpack(content))


def test_a_payload_by_itself() -> None:
    assert payloads.holds(payloads.decoded(GOOD))
    assert reason_of(lambda: payloads.decoded(GOOD[1:])) == "length"
    assert copy.copy(GOOD) == payloads.payload()
