"""The one place of the deployment that touches Flower's internals (tested with flwr 1.41)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import click
import httpx
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from fedkt.deploy.wire.reach import reach, trusting
from fedkt.errors import InputError, RunError

TOO_LARGE = "too-large"


def packed(content: RecordDict) -> bytes:
    """Return a message's content as bytes, as it travels."""
    data: bytes = recorddict_to_proto(content).SerializeToString()
    return data


def unpacked(data: bytes) -> RecordDict:
    """Return the content that :func:`packed` wrote."""
    return recorddict_from_proto(ProtoRecordDict.FromString(data))


def readable(data: bytes) -> RecordDict | None:
    """Return the content of bytes that anybody may have sent, None where they are no message."""
    try:
        return unpacked(data)
    except Exception:  # whatever protobuf and Flower think of it
        return None


# The coordinator's grid ---------------------------------------------------------------------------------


def bound_replies(objects: int, seconds: float) -> None:
    """Let no reply of more objects, or that takes longer to come, be fetched in this process.

    Flower cuts arrays into objects of up to 5 MB, fetches all of a reply before anybody can look at it, and
    waits for two hours where a node died while it sent.
    """
    from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, pull_objects
    from flwr.superlink.grid import http_grid

    def bounded(object_ids: list[str], pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
        if len(object_ids) > objects:
            raise ObjectPullError(TOO_LARGE, f"{len(object_ids)} objects; {objects} are allowed.")
        return pull_objects(object_ids, pull_object_fn, max_time=seconds)

    vars(http_grid)["pull_objects"] = bounded


def gone(message: Message) -> bool:
    """Say whether Flower answered for a node that was not there, or not in time."""
    return message.error.code in (
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    )


def too_large(message: Message) -> bool:
    """Say whether a reply was not fetched because :func:`bound_replies` forbids it."""
    return TOO_LARGE in (message.error.reason or "")


def error_reply(error: Error, asked: Message) -> Message:
    """Return Flower's error as the reply of the node that was asked."""
    return Message(Error(error.code, error.reason), reply_to=asked)


# The coordinator's connection ---------------------------------------------------------------------------


@dataclass(frozen=True)
class RunState:
    """Of a Flower run: whether it goes on, and how it ended (``completed``, ``failed``, ``stopped``)."""

    active: bool
    ended: str
    details: str


class Control:
    """A SuperLink that is named in Flower's ``config.toml``, as its coordinator sees it."""

    def __init__(self, name: str) -> None:
        from flwr.cli.flower_config import read_superlink_connection
        from flwr.cli.utils import init_http_client_from_connection

        self.name = name
        try:
            connection = read_superlink_connection(name)
            self._client = init_http_client_from_connection(connection)
        except (click.ClickException, ValueError) as error:
            raise InputError(f"SuperLink '{name}' cannot be used: {_words(error)}.") from error
        self._federation = connection.federation or ""
        ca = connection.root_certificates
        self._reached = partial(_unreached, connection.address, None if ca is None else Path(ca))

    def start(self, fab: bytes, digest: str) -> int:
        """Start a run of an app bundle; return Flower's number of it."""
        from flwr.common.serde import fab_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        with _told(self.name, self._reached):
            bundle = fab_to_proto(Fab(digest, fab, {}))
            reply = self._client.StartRun(StartRunRequest(fab=bundle, federation=self._federation))
        if not reply.HasField("run_id"):
            raise RunError(f"SuperLink '{self.name}' did not start the run; its own log says why.")
        return int(reply.run_id)

    def state(self, run: int) -> RunState | None:
        """Return the state of a run, None where the SuperLink knows none of this number."""
        from flwr.proto.control_pb2 import ListRunsRequest

        try:
            with _told(self.name, self._reached):
                found = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict
        except RunError:
            return None
        if run not in found:
            return None
        status = found[run].status
        return RunState(status.status != "finished", status.sub_status, status.details)

    def output(self, run: int) -> Iterator[str]:
        """Yield what the run prints, piece by piece, from its beginning to its end."""
        from flwr.proto.control_pb2 import StreamLogsRequest

        after = 0.0
        while True:
            try:
                for reply in self._client.StreamLogs(StreamLogsRequest(run_id=run, after_timestamp=after)):
                    after = reply.latest_timestamp
                    yield reply.log_output
                return
            except httpx.TimeoutException:
                continue  # a quiet time, as while sites train; what was printed meanwhile comes now
            except (httpx.HTTPError, click.ClickException) as error:
                why = self._reached() or f"{_words(error)}."
                raise RunError(f"SuperLink '{self.name}' went away: {why}") from error

    def stop(self, run: int) -> None:
        """Stop a run."""
        from flwr.proto.control_pb2 import StopRunRequest

        with _told(self.name, self._reached):
            self._client.StopRun(StopRunRequest(run_id=run))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _unreached(address: str | None, ca: Path | None) -> str:
    """Say why the SuperLink cannot be reached, "" where it can be."""
    try:
        if address is not None:
            reach(address, trusting(ca))
    except (InputError, OSError) as error:
        return str(error)
    return ""


@contextmanager
def _told(name: str, unreached: Callable[[], str]) -> Iterator[None]:
    """Turn Flower's errors into a sentence; ``unreached`` says what is wrong with the connection."""
    from flwr.cli.utils import flwr_cli_exc_handler

    try:
        with flwr_cli_exc_handler():
            yield
    except click.ClickException as error:
        raise RunError(f"SuperLink '{name}': {unreached() or f'{_words(error)}.'}") from error


def _words(error: Exception) -> str:
    text = error.message if isinstance(error, click.ClickException) else str(error)
    return " ".join(text.split()).rstrip(".")
