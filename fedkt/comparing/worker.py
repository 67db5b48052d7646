"""One run at a time in a process of its own: jobs come as JSON lines, and so do what becomes of them."""

import base64
import json
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkt import registry, scenario
from fedkt.engine.runs.run import simulate
from fedkt.errors import FedktError, RunError
from fedkt.results.observer import Silent
from fedkt.results.trackers import Several, end_early, sinks

Event = dict[str, Any]
"""``{"event": "round", "round": n}``, then ``{"event": "done", "seconds": s}``, the run's own time, or
``{"event": "failed", "error": ...}``."""
Tell = Callable[[Event], None]


class _Rounds(Silent):
    """Tells of every round that ends."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def started(self, info: Mapping[str, Any]) -> None:
        self._tell({"event": "round", "round": info["round"]})

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        self._tell({"event": "round", "round": row["round"]})


def run_job(job: Mapping[str, Any], tell: Tell) -> None:
    """Run a job of ``scenario given out resume data_dir sinks hashes`` and tell how it went."""
    watchers: list[Any] = []
    begun = time.monotonic()
    try:
        data_dir = None if job["data_dir"] is None else Path(job["data_dir"])
        if job.get("given"):
            registry.take(pickle.loads(base64.b64decode(job["given"])))
        resolved = scenario.from_dict(job["scenario"])
        out = Path(job["out"])
        watchers += sinks(resolved, out, **job.get("sinks", {}))
        observer = Several(_Rounds(tell), *watchers)
        simulate(
            resolved,
            out=out,
            resume=job["resume"],
            data_dir=data_dir,
            observer=observer,
            expected=job.get("hashes"),
        )
    except BrokenPipeError:
        raise  # nobody listens any more
    except FedktError as error:
        end_early(watchers, error)
        event = {"event": "failed", "error": " ".join(str(error).split("\n"))}
        if type(error) is RunError and error.__cause__ is not None:
            event["traceback"] = traceback.format_exc()  # a plug-in's mistake: what matters is where
        tell(event)
    except Exception as error:
        end_early(watchers, error)
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        tell({"event": "failed", "error": text, "traceback": traceback.format_exc()})
    else:
        tell({"event": "done", "seconds": round(time.monotonic() - begun, 3)})


def main() -> None:
    """Serve jobs from standard input until it ends."""
    # Whatever a plug-in prints must not mix with what is told.
    told = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def tell(event: Event) -> None:
        told.write(json.dumps(event) + "\n")

    try:
        for line in sys.stdin:
            run_job(json.loads(line), tell)
    except BrokenPipeError:
        os._exit(1)  # the comparison was killed; its runs can be resumed


if __name__ == "__main__":
    main()
