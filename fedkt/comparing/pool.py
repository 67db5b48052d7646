"""Runs spread over this machine's processors: one process each, which a crash takes down alone."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

Told = tuple[int, dict[str, Any]]
"""A job's number and one of its events, ``started`` first (see :mod:`fedkt.comparing.worker`)."""

Inbox = queue.Queue[tuple[int, dict[str, Any] | None]]
MOST_LAST_WORDS = 400


def run_here(jobs: Sequence[Mapping[str, Any]], workers: int, gpus: int = 0) -> Iterator[Told]:
    """Run jobs on this machine, in their order, ``workers`` at a time, and yield what is told of them.

    ``gpus``: of this machine, dealt to the workers in turn. Processes end when the iterator is closed.
    """
    inbox: Inbox = queue.Queue()
    waiting = list(reversed(range(len(jobs))))
    crew: dict[int, _Worker] = {}
    try:
        for place in range(min(workers, len(jobs))):
            crew[place] = _Worker(place, inbox, gpus)
            yield crew[place].start(waiting.pop(), jobs)
        while crew:
            place, event = inbox.get()
            worker = crew[place]
            if event is None:  # its process is gone
                if worker.job is not None:
                    yield worker.job, {"event": "failed", "error": worker.last_words()}
                worker.close()
                del crew[place]
                if waiting:
                    crew[place] = _Worker(place, inbox, gpus)
                    yield crew[place].start(waiting.pop(), jobs)
                continue
            assert worker.job is not None
            number = worker.job
            if event["event"] in ("done", "failed"):
                worker.job = None
            yield number, event
            if worker.job is None:
                if waiting:
                    yield worker.start(waiting.pop(), jobs)
                else:
                    worker.dismiss()
    finally:
        for worker in crew.values():
            worker.close()


class _Worker:
    """A process that runs one job after the other; what it tells goes to the inbox under its place."""

    def __init__(self, place: int, inbox: Inbox, gpus: int) -> None:
        self.job: int | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        environment = dict(os.environ)
        # Where this process imports from, so that package.module:name means the same there.
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(place % gpus)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedkt.comparing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C is for the comparison, which ends its workers itself
        )
        threading.Thread(target=self._listen, args=(place, inbox), daemon=True).start()

    def start(self, number: int, jobs: Sequence[Mapping[str, Any]]) -> Told:
        """Hand a job over."""
        self.job = number
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died just now, which its thread tells
            self._process.stdin.write(json.dumps(jobs[number]) + "\n")
        return number, {"event": "started"}

    def dismiss(self) -> None:
        """Let the process end by itself: there is nothing more to do."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def last_words(self) -> str:
        """Say how the process ended."""
        code = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()[-MOST_LAST_WORDS:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"its process {how}" + (f": {words}" if words else "")

    def _listen(self, place: int, inbox: Inbox) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                inbox.put((place, json.loads(line)))
        except ValueError:
            pass  # closed while reading
        inbox.put((place, None))
