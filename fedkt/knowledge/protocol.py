"""The two messages of a round, packed into Flower's ``RecordDict`` and unpacked with full validation.

A request goes down (train or evaluate), a reply comes up. Beside knowledge a message holds settings
and, in replies, a few named scalar metrics: nothing else has a place in it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedkt.knowledge.codec import Expected, Rejected, decode, decode_all, encode, few, size
from fedkt.knowledge.kinds import Dims, row_ids

# 1 is the first that is released: what came and went before it, such as the nonce, has no number of its own.
PROTOCOL = 1
"""Version of the messages; a peer that speaks another one is refused."""

Status = Literal["accepted", "declined", "failed"]
"""What a reply can say of itself; the server adds ``rejected`` and ``late``."""

MAX_METRICS = 32
MAX_NAME = 40
"""Longest name of a metric."""
MAX_TEXT = 500
"""Longest text in an envelope: room for a sentence, not for knowledge."""
_T = TypeVar("_T", int, str, bool)
_BINDING = frozenset({"protocol", "run", "round", "transfer", "nonce"})
_REQUEST = _BINDING | {"rows", "teacher", "teacher_rows", "teacher_round", "kept", "evaluate"}
_REPLY = _BINDING | {"client", "status", "reason", "detail"}
_ENVELOPE, _ROWS, _KNOWLEDGE, _METRICS = "fedkt", "rows", "knowledge", "metrics"


class Shapes(Protocol):
    """Gives the arrays of a teacher, once it is known about which rows it speaks."""

    def __call__(self, dims: Dims, with_rows: bool) -> Expected: ...


Encode = Callable[[Mapping[str, NDArray[Any]], Expected], ArrayRecord]
"""As :func:`~fedkt.knowledge.encode`."""
Decode = Callable[[Mapping[str, Array], Expected], Mapping[str, NDArray[Any]]]
"""As :func:`~fedkt.knowledge.decode`."""


@dataclass(frozen=True)
class Binding:
    """What ties a message to its place: run, round, the transfer set of both ends, and the number of the
    request, which nobody can guess and its reply repeats."""

    run: str
    round: int
    transfer: str
    nonce: str = ""

    def fields(self) -> dict[str, int | str]:
        """Return the envelope's entries."""
        return {
            "protocol": PROTOCOL,
            "run": self.run,
            "round": self.round,
            "transfer": self.transfer,
            "nonce": self.nonce,
        }

    def check(self, envelope: Mapping[str, Any]) -> None:
        """Raise :class:`Rejected` unless the envelope holds the same entries."""
        for name, mine in self.fields().items():
            theirs = envelope.get(name)
            if theirs != mine or type(theirs) is not type(mine):
                reason = "replay" if name == "nonce" else name
                raise Rejected(reason, f"the message's {name} is {_short(theirs)}; here it is {mine!r}.")


@dataclass(frozen=True)
class Request:
    """A message from the server to one client.

    ``rows`` int32 [n]: transfer rows asked for (None: all, in order); ``teacher``: arrays of the
    newest teacher that the client lacks, None if there is none; ``teacher_round``: the round that
    made it; ``kept``: oldest round from which a resume may start, so older states may be dropped;
    ``evaluate``: whether metrics are wanted.
    """

    binding: Binding
    rows: NDArray[np.int32] | None = None
    teacher: Mapping[str, NDArray[Any]] | None = None
    teacher_round: int = 0
    kept: int = 0
    evaluate: bool = False

    def pack(self, dims: Dims, shapes: Shapes, encoded: Encode = encode) -> RecordDict:
        """Return the encoded request; ``encoded`` encodes the teacher."""
        ids = None if self.teacher is None else self.teacher.get("rows")
        teacher_rows = 0 if ids is None else len(ids)
        content = RecordDict()
        content[_ENVELOPE] = _record(
            {
                **self.binding.fields(),
                "rows": 0 if self.rows is None else len(self.rows),
                "teacher": self.teacher is not None,
                "teacher_rows": teacher_rows,
                "teacher_round": self.teacher_round,
                "kept": self.kept,
                "evaluate": self.evaluate,
            },
            ("nonce",),
        )
        if self.rows is not None:
            content[_ROWS] = encode({"ids": self.rows}, {"ids": row_ids(dims.about(len(self.rows)))})
        if self.teacher is not None:
            content[_KNOWLEDGE] = encoded(self.teacher, shapes(dims.about(teacher_rows), teacher_rows > 0))
        return content

    @classmethod
    def unpack(
        cls, content: RecordDict, transfer: str, dims: Dims, shapes: Shapes, decoded: Decode = decode
    ) -> "Request":
        """Decode a request at a client that holds the transfer set with this hash.

        ``decoded`` decodes the teacher.
        """
        envelope = _envelope(content)
        run, number = _entry(envelope, "run", str), _entry(envelope, "round", int)
        binding = Binding(run, number, transfer, _entry(envelope, "nonce", str))
        binding.check(envelope)
        _check_entries(envelope, _REQUEST)
        asked, taught = _entry(envelope, "rows", int), _entry(envelope, "teacher_rows", int)
        for count in (asked, taught):
            if not 0 <= count <= dims.transfer:
                raise Rejected("rows", f"the message speaks of {count} rows; there are {dims.transfer}.")
        has_teacher = _entry(envelope, "teacher", bool)
        _check_keys(
            content, {_ENVELOPE} | ({_ROWS} if asked else set()) | ({_KNOWLEDGE} if has_teacher else set())
        )
        rows = None
        if asked:
            rows = decode(_arrays(content, _ROWS), {"ids": row_ids(dims.about(asked))})["ids"]
        teacher = None
        if has_teacher:
            teacher = decoded(_arrays(content, _KNOWLEDGE), shapes(dims.about(taught), taught > 0))
        return cls(
            binding,
            rows,
            teacher,
            _entry(envelope, "teacher_round", int),
            _entry(envelope, "kept", int),
            _entry(envelope, "evaluate", bool),
        )


@dataclass(frozen=True)
class Reply:
    """A message from one client to the server.

    ``status``; ``reason`` and ``detail`` where it is not ``accepted``; ``arrays``: the contribution,
    None in the reply to an evaluate message; ``metrics``: scalars by name.
    """

    binding: Binding
    client: str
    status: Status = "accepted"
    reason: str = ""
    detail: str = ""
    arrays: Mapping[str, NDArray[Any]] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def pack(self, expected: Expected, encoded: Encode = encode) -> RecordDict:
        """Return the encoded reply; raises :class:`Rejected` if anything undeclared would leave.

        ``encoded`` encodes the contribution.
        """
        content = RecordDict()
        content[_ENVELOPE] = _record(
            {
                **self.binding.fields(),
                "client": self.client,
                "status": self.status,
                "reason": self.reason,
                "detail": self.detail,
            },
            ("nonce", "client"),
        )
        if self.arrays is not None:
            content[_KNOWLEDGE] = encoded(self.arrays, expected)
        if self.metrics:
            content[_METRICS] = MetricRecord({**_checked_metrics(self.metrics)})
        return content

    @classmethod
    def unpack(cls, content: RecordDict, binding: Binding, expected: Expected | None) -> "Reply":
        """Decode a reply; ``expected`` is None where no knowledge may come."""
        found = cls.unpack_all([content], [binding], [expected])[0]
        if isinstance(found, Rejected):
            raise found
        return found

    @classmethod
    def unpack_all(
        cls, contents: Sequence[RecordDict], bindings: Sequence[Binding], expected: Sequence[Expected | None]
    ) -> "list[Reply | Rejected]":
        """Decode replies, whose contributions are checked together; the reason for each that is refused."""
        found: list[Reply | Rejected] = []
        alike: list[tuple[Expected, list[int], list[ArrayRecord]]] = []
        for i, (content, binding, shapes) in enumerate(zip(contents, bindings, expected, strict=True)):
            try:
                reply, arrays = cls._read(content, binding, shapes is not None)
            except Rejected as error:
                found.append(error)
                continue
            found.append(reply)
            if arrays is not None and shapes is not None:
                group = next((g for g in alike if g[0] == shapes), None)
                if group is None:
                    alike.append(group := (shapes, [], []))
                group[1].append(i)
                group[2].append(arrays)
        for shapes, places, records in alike:
            for i, decoded in zip(places, decode_all(records, shapes), strict=True):
                read = found[i]
                if isinstance(decoded, Rejected):
                    found[i] = decoded
                elif isinstance(read, Reply):
                    found[i] = replace(read, arrays=decoded)
        return found

    @classmethod
    def _read(
        cls, content: RecordDict, binding: Binding, knowing: bool
    ) -> "tuple[Reply, ArrayRecord | None]":
        """Read all of a reply but its arrays, which are returned as they came; ``knowing``: whether an
        accepted one holds any."""
        envelope = _envelope(content)
        binding.check(envelope)
        _check_entries(envelope, _REPLY)
        client, status = _entry(envelope, "client", str), _entry(envelope, "status", str)
        if status not in ("accepted", "declined", "failed"):
            raise Rejected(
                "kind", f"the reply's status is {_short(status)}; it must be accepted, declined or failed."
            )
        wanted = {_KNOWLEDGE} if status == "accepted" and knowing else set()
        _check_keys(content, {_ENVELOPE} | wanted | ({_METRICS} if _METRICS in content else set()))
        arrays = _arrays(content, _KNOWLEDGE) if wanted else None
        metrics: Mapping[str, float] = {}
        if _METRICS in content:
            record = content[_METRICS]
            if not isinstance(record, MetricRecord):
                raise Rejected("names", f"the message's '{_METRICS}' holds no metrics.")
            metrics = _checked_metrics(cast(Mapping[str, float], record))
        reason, detail = _entry(envelope, "reason", str), _entry(envelope, "detail", str)
        return cls(binding, client, cast(Status, status), reason, detail, None, metrics), arrays


def binding_of(content: RecordDict) -> Binding:
    """Read what a request says that it belongs to; its protocol's version and its arrays are not checked."""
    envelope = _envelope(content)
    run, transfer, nonce = (_entry(envelope, name, str) for name in ("run", "transfer", "nonce"))
    return Binding(run, _entry(envelope, "round", int), transfer, nonce)


def kept_of(content: RecordDict) -> int:
    """Read the oldest round from which the sender of a request may resume."""
    return _entry(_envelope(content), "kept", int)


def status_of(content: RecordDict) -> tuple[str, str]:
    """Read the status and the reason of a reply that was packed here."""
    envelope = _envelope(content)
    return _entry(envelope, "status", str), _entry(envelope, "reason", str)


def knowledge_bytes(content: RecordDict) -> int:
    """Return the bytes of knowledge and row ids in a message; settings and metrics do not count."""
    records = [content.get(key) for key in (_ROWS, _KNOWLEDGE)]
    return sum(size(record) for record in records if isinstance(record, ArrayRecord))


def round_of(content: RecordDict) -> int:
    """Return the round that a message says it belongs to, 0 where it says nothing readable."""
    envelope = content.get(_ENVELOPE)
    number = envelope.get("round") if isinstance(envelope, ConfigRecord) else None
    return number if type(number) is int else 0


def who_are_you(node: int, ttl: float) -> Message:
    """Ask a node for the name of its client: Flower's node ids are random."""
    return Message(RecordDict({_ENVELOPE: ConfigRecord({"protocol": PROTOCOL})}), node, "query", ttl=ttl)


def i_am(client: str, question: Message) -> Message:
    """Answer :func:`who_are_you`."""
    return Message(RecordDict({_ENVELOPE: ConfigRecord({"client": client})}), reply_to=question)


def who_answered(content: RecordDict) -> str:
    """Read the name in an answer to :func:`who_are_you`; empty where there is none."""
    envelope = content.get(_ENVELOPE)
    name = envelope.get("client") if isinstance(envelope, ConfigRecord) else None
    return name if isinstance(name, str) else ""


def _record(entries: Mapping[str, int | str], own: Sequence[str]) -> ConfigRecord:
    """Return an envelope; ``own``: entries of one message, which others of its exchange have otherwise.

    The rest is checked by Flower once for all of them, which takes 20 times as long as to copy it.
    """
    common = _common(tuple((name, "" if name in own else value) for name, value in entries.items())).copy()
    for name in own:
        common[name] = entries[name]
    return common


@lru_cache(maxsize=64)
def _common(entries: tuple[tuple[str, int | str], ...]) -> ConfigRecord:
    return ConfigRecord(dict(entries))


def _checked_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    if len(metrics) > MAX_METRICS:
        raise Rejected("names", f"the reply holds {len(metrics)} metrics; at most {MAX_METRICS} may be sent.")
    for name, value in metrics.items():
        if len(name) > MAX_NAME:
            raise Rejected("names", f"a metric's name has {len(name)} characters; {MAX_NAME} are allowed.")
        if not isinstance(value, float) or not math.isfinite(value):
            raise Rejected("finite", f"metric '{name}' is {_short(value)}; it must be one finite number.")
    return dict(metrics)


def _envelope(content: RecordDict) -> Mapping[str, Any]:
    envelope = content.get(_ENVELOPE)
    if not isinstance(envelope, ConfigRecord):
        raise Rejected("names", "the message has no envelope.")
    return dict(envelope.items())  # a record takes ten times as long to read


def _check_entries(envelope: Mapping[str, Any], entries: frozenset[str]) -> None:
    if set(envelope) != entries:
        raise Rejected(
            "names", f"the envelope holds {len(envelope)} entries; it must hold exactly {sorted(entries)}."
        )
    for name, value in envelope.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise Rejected(
                "length", f"the envelope's '{name}' has {len(value)} characters; {MAX_TEXT} are allowed."
            )


def _arrays(content: RecordDict, key: str) -> ArrayRecord:
    record = content.get(key)
    if not isinstance(record, ArrayRecord):
        raise Rejected("names", f"the message's '{key}' holds no arrays.")
    return record


def _check_keys(content: RecordDict, allowed: set[str]) -> None:
    if set(content) != allowed:
        raise Rejected("names", f"the message holds {few(content)}; it must hold exactly {sorted(allowed)}.")


def _short(value: Any) -> str:
    """Return what somebody sent as a text that is fit for a line."""
    text = repr(value)
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}..."


def _entry(envelope: Mapping[str, Any], name: str, kind: type[_T]) -> _T:
    value = envelope.get(name)
    if type(value) is not kind:
        raise Rejected(
            "names", f"the envelope's '{name}' is {_short(value)}; it must be of type {kind.__name__}."
        )
    return value
