"""Ray itself: started for one run, or joined where a cluster runs."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from fedkt.engine.runtimes.ray_hosts import RayHosts
from fedkt.engine.runtimes.wires import Session
from fedkt.errors import InputError
from fedkt.files import Aside
from fedkt.scenario import Engine

KNOCK_S = 5.0
"""How long an address has to answer."""
CLUSTER_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A call that any Ray cluster answers; an empty request will do."""


def worker_count(engine: Engine) -> int:
    """Return how many actors ``workers: auto`` means: one per processor, or as many as share the GPUs."""
    if engine.workers != "auto":
        return engine.workers
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    by_cpu = int(resources.get("CPU", 1) / engine.cpus)
    by_gpu = int(resources.get("GPU", 0) / engine.gpus) if engine.gpus else by_cpu
    return max(1, min(by_cpu, by_gpu))


class RaySession(Session):
    """Ray for one run: one of its own, or the cluster at ``engine.address``; left as it was found.

    Its own starts in a thread while the caller prepares the run, and ends in it while the caller sums up.
    The thread lives as long as Ray does, whose processes the kernel ends with the thread that began them.
    ``host`` makes an actor. ``hurry``: this process ends after the run, and Ray with it: nobody waits.
    """

    def __init__(self, engine: Engine, host: Callable[[], Any] | None = None, *, hurry: bool = False) -> None:
        self._engine, self._host, self._hurry = engine, host, hurry
        self._found = ray.is_initialized()
        self._aside, self._begun = Aside(), False
        self._there: list[Any] = []
        """Actors that were started early and have nothing yet."""

    def begin(self, world: Any = None) -> None:
        """Begin to start a Ray of one's own, and a host per worker; a second time is nothing."""
        if not (self._begun or self._found or self._engine.address):
            self._begun = True
            self._aside.begin(self._start)

    def ready(self) -> None:
        """Wait until Ray is there. Raises InputError where no cluster answers."""
        self._aside.wait()
        if not ray.is_initialized():
            self._start()

    def workers(self) -> int:
        self.ready()
        return worker_count(self._engine)

    def hosts(self, world: Any) -> RayHosts:
        self.ready()
        early, self._there = self._there, []
        assert self._host is not None
        return RayHosts(world, self._host, early)

    def end(self) -> None:
        self._there.clear()
        if not self._found:
            self._aside.begin(ray.shutdown, after=False)

    def ended(self) -> None:
        """Wait until that is done."""
        if not self._hurry:
            self._aside.wait()

    def _start(self) -> None:
        import logging

        engine, paths = self._engine, [*sys.path, os.environ.get("PYTHONPATH", "")]
        options: dict[str, Any] = {
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": logging.ERROR,
        }
        # Workers import the user's modules (package.module:name) from where this process does.
        imports = {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if engine.address is None:
            with _alone(imports):
                ray.init(**(options | resources_for(engine)))
        else:
            knock(engine)
            try:
                ray.init(**options, address=engine.address, runtime_env={"env_vars": imports})
            except (ConnectionError, ValueError) as error:
                raise _no_answer(engine.address) from error
        if self._host is not None:
            self._there += [self._host() for _ in range(worker_count(engine))]


@contextmanager
def begun(
    engine: Engine, host: Callable[[], Any] | None = None, *, hurry: bool = False
) -> Iterator[RaySession]:
    """Have a session, which has begun where there is a hurry; what was started ends with the block."""
    session = RaySession(engine, host, hurry=hurry)
    if hurry:
        session.begin()
    try:
        yield session
    finally:
        session.end()
        session.ended()


@contextmanager
def ray_session(engine: Engine) -> Iterator[None]:
    """Have Ray for the block."""
    with begun(engine) as session:
        session.begin()
        session.ready()
        yield


@contextmanager
def _alone(imports: Mapping[str, str]) -> Iterator[None]:
    """Let Ray start without what one run on one machine has no use for, with an environment for its workers.

    A dashboard's server, the monitors of logs and of scaling are a Python process each, and a second of a
    processor's time. An environment that Ray sets up for a job takes as long again.
    """
    from ray._private.node import Node

    names = [n for n in ("start_monitor", "start_api_server", "start_log_monitor") if hasattr(Node, n)]
    before = {name: getattr(Node, name) for name in names}
    environment = {name: os.environ.get(name) for name in imports}
    try:
        for name in names:
            setattr(Node, name, lambda self, *_, **__: None)
        os.environ.update(imports)
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)
        for name, value in environment.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def knock(engine: Engine) -> None:
    """Raise InputError where no Ray answers at ``engine.address``: Ray itself would try for minutes."""
    import grpc

    address = engine.address or ""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return  # none, or a word such as auto, which Ray looks up on this machine
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(CLUSTER_CALL)(b"", timeout=KNOCK_S)
        except grpc.RpcError as error:
            raise _no_answer(address) from error


def _no_answer(address: str | None) -> InputError:
    return InputError(
        f"no Ray cluster answers at engine.address {address}; start one with 'ray start --head', "
        "or leave engine.address out."
    )


def resources_for(engine: Engine) -> dict[str, int]:
    """Return the processors and GPUs to give a Ray of one's own, where the number of workers is set."""
    if engine.workers == "auto":
        return {"num_cpus": max(1, os.cpu_count() or 1)}
    return {
        "num_cpus": max(1, round(engine.workers * engine.cpus)),
        "num_gpus": max(0, round(engine.workers * engine.gpus)),
    }


def by_value(plugins: Mapping[str, Any]) -> bytes:
    """Pickle plug-ins that cannot be imported. Raises InputError where one holds what cannot be sent."""
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(dict(plugins)))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise InputError(
            f"{' or '.join(plugins)} cannot be sent to another process ({type(error).__name__}: {error}); "
            "engine inline needs none."
        ) from error
