"""Runs spread over a Ray cluster, whose nodes share no disk with this machine: folders come back packed."""

import io
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkt.comparing.pool import Told
from fedkt.comparing.worker import Event, run_job
from fedkt.engine.runtimes.cluster import ray_session
from fedkt.scenario import Engine


def run_there(jobs: Sequence[Mapping[str, Any]], engine: Engine) -> Iterator[Told]:
    """Run jobs on the cluster at ``engine.address`` and yield what is told of them.

    Each takes ``engine.cpus`` and ``engine.gpus`` of the cluster. Data files must lie at the same place on
    every node. A run that was interrupted is continued from what came back last, which is a whole run only.
    """
    import ray

    with ray_session(engine):
        remote = ray.remote(num_cpus=engine.cpus, num_gpus=engine.gpus, max_retries=0)(_run_packed)
        begun = {
            remote.remote(dict(job), _pack(Path(job["out"])) if job["resume"] else b""): number
            for number, job in enumerate(jobs)
        }
        for number in begun.values():
            yield number, {"event": "started"}
        while begun:
            (ready,), _ = ray.wait(list(begun), num_returns=1)
            number = begun.pop(ready)
            try:
                event, packed = ray.get(ready)
            except ray.exceptions.RayError as error:
                first = str(error).strip().partition("\n")[0]
                yield number, {"event": "failed", "error": f"the cluster lost it: {first}"}
                continue
            if packed:
                _unpack(packed, Path(jobs[number]["out"]))
            yield number, event


def _run_packed(job: dict[str, Any], before: bytes) -> tuple[Event, bytes]:
    """Run a job in a folder of its own on a node; return how it ended and the run's folder."""
    told: list[Event] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        if before:
            _unpack(before, folder)
        run_job(job | {"out": str(folder)}, told.append)
        return told[-1], _pack(folder) if folder.is_dir() else b""


def _pack(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    return packed.getvalue()


def _unpack(packed: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
