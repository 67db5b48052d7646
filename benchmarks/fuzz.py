"""Fuzz what reads messages: the decoder of arrays, replies at the server, requests at a client.

    pip install atheris
    python -m benchmarks.fuzz -runs=1000000 [other libFuzzer options]

Coverage-guided (atheris, libFuzzer) from the corpus of tests/knowledge/payloads.py. Every execution must end
in a rejection or in exactly what was declared; anything else ends the script with the input that did it.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fedkt.knowledge", "fedkt.knowledge.protocol"]):
    from fedkt import knowledge
    from fedkt.knowledge import protocol

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Proto

from fedkt.knowledge import Dims, Expected, Logits, Rejected
from fedkt.knowledge.protocol import Binding, Request
from tests.knowledge import payloads

PAYLOAD, REPLY, REQUEST = range(3)
LEN = len(payloads.payload())


def shapes(dims: Dims, with_rows: bool) -> Expected:
    """Return the arrays of a teacher."""
    return Logits.expected(dims, probabilities=True, with_rows=with_rows)


def request() -> RecordDict:
    """Return a request that is accepted."""
    teacher = {"values": payloads.VALUES}
    binding = Binding("run-1", 4, "abc", "n" * 32)
    return Request(binding, None, teacher, 3, 2, True).pack(payloads.DIMS, lambda dims, _: payloads.EXPECTED)


def message(data: bytes) -> RecordDict | None:
    """Return the message in these bytes, None where Flower itself cannot read them."""
    try:
        return recorddict_from_proto(Proto.FromString(data))
    except Exception:
        return None


def once(data: bytes) -> None:
    """Read one input as whatever its first byte says that it is."""
    kind, rest = (data[0] % 3, data[1:]) if data else (PAYLOAD, b"")
    try:
        if kind == PAYLOAD:
            # Half of them at the right length, so that what lies behind that check is reached.
            sized = rest[:LEN].ljust(LEN, b"\0") if data and data[0] & 128 else rest
            assert payloads.holds(payloads.decoded(sized))
            return
        content = message(rest)
        if content is None:
            return
        protocol.knowledge_bytes(content)
        protocol.round_of(content)
        if kind == REPLY:
            assert payloads.holds(payloads.unpack(content))
        else:
            read = Request.unpack(content, "abc", payloads.DIMS, shapes)
            assert read.rows is None or ((read.rows >= 0) & (read.rows < payloads.DIMS.transfer)).all()
            assert read.teacher is None or set(read.teacher) <= {"values", "rows"}
    except Rejected as error:
        assert error.reason and len(error.detail) < 1000


def seeds(folder: Path) -> None:
    """Write the corpus as files."""
    (folder / "payload").write_bytes(bytes([PAYLOAD]) + payloads.payload())
    (folder / "sized").write_bytes(bytes([129 + 2]) + payloads.payload())
    (folder / "request").write_bytes(bytes([REQUEST]) + recorddict_to_proto(request()).SerializeToString())
    for number, (change, _) in enumerate([(lambda content: None, ""), *payloads.BAD.values()]):
        content = payloads.good()
        change(content)  # type: ignore[no-untyped-call]
        try:
            data = recorddict_to_proto(content).SerializeToString()
        except ValueError:
            continue  # Flower's message cannot carry it
        if len(data) < 10_000:
            (folder / f"reply-{number}").write_bytes(bytes([REPLY]) + data)


def main() -> None:
    """Fuzz until the runs that were asked for are over."""
    assert knowledge.PROTOCOL == protocol.PROTOCOL
    with tempfile.TemporaryDirectory() as folder:
        seeds(Path(folder))
        atheris.Setup([*sys.argv, "-max_len=4096", folder], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
