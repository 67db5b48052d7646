"""Ray itself: started for one run, or joined where a cluster runs."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from fedkt.errors import InputError
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


@contextmanager
def ray_session(engine: Engine) -> Iterator[None]:
    """Start Ray, or join the cluster at ``engine.address``; leave it as it was found."""
    if ray.is_initialized():
        yield
        return
    import logging

    paths = [*sys.path, os.environ.get("PYTHONPATH", "")]
    options: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        # Workers import the user's modules (package.module:name) from where this process does.
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}},
    }
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if engine.address is not None:
        knock(engine)
        options["address"] = engine.address
    else:
        options |= resources_for(engine)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError) as error:
        raise _no_answer(engine.address) from error
    try:
        yield
    finally:
        ray.shutdown()


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
