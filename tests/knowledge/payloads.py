"""A corpus of bad replies, and a generator of more: shared by the tests and the fuzz target.

Each entry of :data:`BAD` makes one thing of a good reply wrong and names the reason with which it must be
refused. Nothing here needs pytest.
"""

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedkt.knowledge import Dims, Expected, Logits, decode
from fedkt.knowledge.protocol import Binding, Reply

DIMS = Dims(rows=4, transfer=6, classes=3, width=2)
EXPECTED: Expected = Logits.expected(DIMS, probabilities=True)
BINDING = Binding("run-1", 4, "abc", "n" * 32)
VALUES = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.1, 0.1, 0.8], [0, 0.5, 0.5]], np.float32)
HEADER = 128
"""Length of the only acceptable header of these values; 48 bytes of values follow."""

Break = Callable[[RecordDict], None]


def good() -> RecordDict:
    """Return a reply that is accepted."""
    return Reply(BINDING, "7", arrays={"values": VALUES}, metrics={"personal": 0.5}).pack(EXPECTED)


def unpack(content: RecordDict) -> Reply:
    """Read a reply as the server does."""
    return Reply.unpack(content, BINDING, EXPECTED)


def payload() -> bytes:
    """Return the bytes of the good array."""
    return bytes(good().array_records["knowledge"]["values"].data)


def put(data: bytes | None = None, **declared: Any) -> Break:
    """Send other bytes, or declare something else about them."""

    def change(content: RecordDict) -> None:
        held = {"dtype": "float32", "shape": (4, 3), "stype": "numpy.ndarray", **declared}
        content["knowledge"] = ArrayRecord(
            {"values": Array(data=payload() if data is None else data, **held)}
        )

    return change


def headed(text: str, version: bytes = b"\x01\x00", magic: bytes = b"\x93NUMPY") -> Break:
    """Send a header of one's own, at the right length."""
    room = HEADER - 10
    body = text.encode("latin1")[: room - 1].ljust(room - 1) + b"\n"
    return put(magic + version + struct.pack("<H", room) + body + payload()[HEADER:])


def described(descr: str = "'<f4'", fortran: str = "False", shape: str = "(4, 3)") -> Break:
    """Send a header that describes something else."""
    return headed(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}")


def valued(row: int, column: int, value: float) -> Break:
    """Send another value."""
    values = VALUES.copy()
    values[row, column] = value
    return put(payload()[:HEADER] + values.tobytes())


def rows(values: Any) -> Break:
    """Send other values of the right shape."""
    return put(payload()[:HEADER] + np.asarray(values, np.float32).tobytes())


def named(**arrays: Array) -> Break:
    """Send arrays of these names."""

    def change(content: RecordDict) -> None:
        content["knowledge"] = ArrayRecord(arrays)

    return change


def array() -> Array:
    """Return the good array."""
    return Array(dtype="float32", shape=(4, 3), stype="numpy.ndarray", data=payload())


def entry(**entries: Any) -> Break:
    """Put other entries into the envelope; None takes one away."""

    def change(content: RecordDict) -> None:
        kept = {k: v for k, v in {**content.config_records["fedkt"], **entries}.items() if v is not None}
        content["fedkt"] = ConfigRecord(kept)

    return change


def record(name: str, held: Any) -> Break:
    """Put a record of this name; None takes it away."""

    def change(content: RecordDict) -> None:
        if held is None:
            del content[name]
        else:
            content[name] = held

    return change


def metrics(**held: Any) -> Break:
    """Send other metrics."""
    return record("metrics", MetricRecord(held))


def declined(content: RecordDict) -> None:
    """Say no, and send knowledge all the same."""
    entry(status="declined")(content)


def npz() -> bytes:
    """Return a zip file of a hundred million zeros."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("values.npy", bytes(10**6))
    return out.getvalue()


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


def sized(data: bytes) -> bytes:
    """Cut or pad to the right length, so that nothing but the content can give it away."""
    return data[: HEADER + 48].ljust(HEADER + 48, b"\0")


BAD: dict[str, tuple[Break, str]] = {
    # length, before anything is parsed
    "no bytes": (put(b""), "length"),
    "one byte short": (put(payload()[:-1]), "length"),
    "one byte more": (put(payload() + b"\0"), "length"),
    "header only": (put(payload()[:HEADER]), "length"),
    "twice": (put(payload() * 2), "length"),
    "a megabyte more": (put(payload() + bytes(2**20)), "length"),
    "values without header": (put(payload()[HEADER:]), "length"),
    # the header
    "other magic": (headed("{}", magic=b"\x93NUMPX"), "header"),
    "version 2": (headed("{'descr': '<f4'}", version=b"\x02\x00"), "header"),
    "version 3": (headed("{'descr': '<f4'}", version=b"\x03\x00"), "header"),
    "version 255": (headed("{'descr': '<f4'}", version=b"\xff\xff"), "header"),
    "header of length 0": (put(payload()[:8] + b"\0\0" + payload()[10:]), "header"),
    "header of length 65535": (put(payload()[:8] + b"\xff\xff" + payload()[10:]), "header"),
    "Fortran order": (described(fortran="True"), "header"),
    "big-endian": (described("'>f4'"), "header"),
    "objects": (described("'|O'"), "header"),
    "doubles": (described("'<f8'", shape="(2, 3)"), "header"),
    "complex": (described("'<c8'", shape="(2, 3)"), "header"),
    "unicode": (described("'<U1'"), "header"),
    "structured": (described("[('a', '<f4')]"), "header"),
    "void": (described("'|V4'"), "header"),
    "times": (described("'<M8[s]'", shape="(2, 3)"), "header"),
    "integers": (described("'<i4'"), "header"),
    "transposed": (described(shape="(3, 4)"), "header"),
    "flat": (described(shape="(12,)"), "header"),
    "a trillion values": (described(shape="(1000000000000,)"), "header"),
    "shape that overflows": (described(shape="(4294967296, 4294967296)"), "header"),
    "negative shape": (described(shape="(-4, -3)"), "header"),
    "shape of True": (described(shape="(True, 12)"), "header"),
    "shape that is code": (described(shape="__import__('os').getcwd()"), "header"),
    "nested parentheses": (headed("(" * 100), "header"),
    "no mapping": (headed("[]"), "header"),
    "empty mapping": (headed("{}"), "header"),
    "further key": (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), 'x': 1, }"), "header"),
    "key twice": (headed("{'descr': '<f4', 'descr': '<f4', 'shape': (4, 3), }"), "header"),
    "keys in another order": (
        headed("{'shape': (4, 3), 'descr': '<f4', 'fortran_order': False, }"),
        "header",
    ),
    "padded with tabs": (put(payload()[:HEADER].replace(b" " * 8, b"\t" * 8) + payload()[HEADER:]), "header"),
    "no line break": (put(payload()[: HEADER - 1] + b" " + payload()[HEADER:]), "header"),
    "NUL in the header": (put(payload()[:60] + b"\0" + payload()[61:]), "header"),
    "a zip file": (put(sized(npz())), "header"),
    "a pickle": (put(sized(pickle.dumps(Evil()))), "header"),
    "gzip": (put(sized(gzip.compress(payload()))), "header"),
    "zeros": (put(bytes(HEADER + 48)), "header"),
    # what is declared beside the bytes
    "declared doubles": (put(dtype="float64"), "dtype"),
    "declared objects": (put(dtype="object"), "dtype"),
    "declared with a blank": (put(dtype="float32 "), "dtype"),
    "declared as nothing": (put(dtype=""), "dtype"),
    "declared big-endian": (put(dtype=">f4"), "dtype"),
    "declared transposed": (put(shape=(3, 4)), "shape"),
    "declared scalar": (put(shape=()), "shape"),
    "declared with a dimension more": (put(shape=(4, 3, 1)), "shape"),
    "declared empty": (put(shape=(0, 3)), "shape"),
    "declared huge": (put(shape=(2**62, 3)), "shape"),
    "declared negative": (put(shape=(-4, -3)), "shape"),
    "declared with a thousand dimensions": (put(shape=(1,) * 1000), "shape"),
    "a torch tensor": (put(stype="torch.Tensor"), "stype"),
    "an npz": (put(npz(), stype="numpy.savez"), "stype"),
    "stored as nothing": (put(stype=""), "stype"),
    # values
    "NaN": (valued(1, 1, np.nan), "finite"),
    "infinity": (valued(0, 0, np.inf), "finite"),
    "minus infinity": (valued(3, 2, -np.inf), "finite"),
    "all NaN": (rows(np.full((4, 3), np.nan)), "finite"),
    "signalling NaN": (put(payload()[:HEADER] + b"\x01\x00\x80\x7f" * 12), "finite"),
    "below nothing": (rows([[-0.1, 0.6, 0.5]] * 4), "range"),
    "above certainty": (rows([[1.2, -0.1, -0.1]] * 4), "range"),
    "a hundred times": (rows(100 * VALUES), "range"),
    "the largest float": (valued(2, 0, 3.4028235e38), "range"),
    "half of a distribution": (rows(VALUES / 2), "sum"),
    "no distribution": (rows(np.zeros((4, 3))), "sum"),
    "certain of all": (rows(np.ones((4, 3))), "sum"),
    "one row off": (valued(1, 2, 0.01), "sum"),
    # names
    "no array": (named(), "names"),
    "another name": (named(value=array()), "names"),
    "a name in capitals": (named(Values=array()), "names"),
    "one more": (named(values=array(), weights=array()), "names"),
    "a look-alike": (named(**{"valu\u0435s": array()}), "names"),
    "an empty name": (named(**{"": array()}), "names"),
    "a name with NUL": (named(**{"values\0": array()}), "names"),
    "a name of a megabyte": (named(**{"v" * 2**20: array()}), "names"),
    "a thousand arrays": (named(**{f"a{i}": array() for i in range(1000)}), "names"),
    "path as a name": (named(**{"../../values": array()}), "names"),
    # the envelope
    "newer protocol": (entry(protocol=99), "protocol"),
    "protocol as text": (entry(protocol="1"), "protocol"),
    "protocol as truth": (entry(protocol=True), "protocol"),
    "no protocol": (entry(protocol=None), "protocol"),
    "another run": (entry(run="run-2"), "run"),
    "no run": (entry(run=""), "run"),
    "an old round": (entry(round=3), "round"),
    "a future round": (entry(round=5), "round"),
    "a negative round": (entry(round=-1), "round"),
    "a broken round": (entry(round=4.0), "round"),
    "a stale transfer set": (entry(transfer="abd"), "transfer"),
    "no transfer set": (entry(transfer=None), "transfer"),
    "another request's number": (entry(nonce="m" * 32), "replay"),
    "no request's number": (entry(nonce=None), "replay"),
    "one entry more": (entry(weights="0.1 0.2"), "names"),
    "no client": (entry(client=None), "names"),
    "a client that is a number": (entry(client=7), "names"),
    "unknown status": (entry(status="rejected"), "kind"),
    "status as a list": (entry(status=["accepted"]), "names"),
    "a reason that is a book": (entry(reason="w" * 501), "length"),
    "a detail in bytes": (entry(detail=b"1"), "names"),
    # records
    "no envelope": (record("fedkt", None), "names"),
    "an envelope of arrays": (record("fedkt", ArrayRecord({"values": array()})), "names"),
    "no knowledge": (record("knowledge", None), "names"),
    "knowledge in metrics": (record("knowledge", MetricRecord({"values": [0.1] * 12})), "names"),
    "a second record of arrays": (record("weights", ArrayRecord({"w": array()})), "names"),
    "row ids in a reply": (record("rows", ArrayRecord({"ids": array()})), "names"),
    "knowledge of one who declines": (declined, "names"),
    "settings": (record("config", ConfigRecord({"lr": 0.1})), "names"),
    # metrics
    "33 metrics": (metrics(**{f"m{i}": 0.5 for i in range(33)}), "names"),
    "a metric that is NaN": (metrics(personal=float("nan")), "finite"),
    "a metric that is infinite": (metrics(personal=float("inf")), "finite"),
    "a metric that is whole": (metrics(personal=1), "finite"),
    "a metric that is a list": (metrics(personal=[0.1, 0.2]), "finite"),
    "a metric with a long name": (metrics(**{"m" * 41: 0.5}), "names"),
    "metrics as settings": (record("metrics", ConfigRecord({"personal": 0.5})), "names"),
}
"""What is wrong, how it is made, and the reason with which it must be refused."""


def holds(reply: Reply) -> bool:
    """Say whether what was accepted is what was declared: the invariant of every mutation."""
    arrays = reply.arrays
    if reply.status != "accepted":
        return arrays is None
    if arrays is None or set(arrays) != {"values"}:
        return False
    values = arrays["values"]
    return (
        values.dtype == np.float32
        and values.shape == (4, 3)
        and bool(np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all())
        and bool(np.allclose(values.sum(-1, dtype=np.float64), 1, atol=1.1e-3))
    )


def decoded(data: bytes) -> Reply:
    """Decode a payload by itself; return it as if a reply had held it."""
    arrays = decode(
        {"values": Array(dtype="float32", shape=(4, 3), stype="numpy.ndarray", data=data)}, EXPECTED
    )
    return Reply(BINDING, "7", arrays=arrays)
