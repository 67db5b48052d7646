"""The round loop inside Flower's own simulation runtime (Ray underneath)."""

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from fedkt.engine.loop.loop import Loop
from fedkt.errors import Interrupted, RunError
from fedkt.scenario import Engine

if TYPE_CHECKING:
    from flwr.serverapp import Grid

REGISTRATION_S = 120


def run(loop: Loop, app: "object", clients: int, engine: Engine, stop: threading.Event) -> None:
    """Run the loop as a ``ServerApp`` over ``clients`` virtual nodes that run ``app``.

    Client states must lie on disk: any of Flower's actors may play any client.
    """
    from flwr.app import Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    assert isinstance(app, ClientApp)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        _wait_for_nodes(grid, clients)
        loop.run(grid)

    workers = (os.cpu_count() or 1) if engine.workers == "auto" else engine.workers
    ray_args = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if engine.address is None:
        ray_args |= {
            "num_cpus": max(1, round(workers * engine.cpus)),
            "num_gpus": max(0, round(workers * engine.gpus)),
        }
    else:
        ray_args["address"] = engine.address  # type: ignore[assignment]
    logging.getLogger("flwr").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        with _interrupt_sets(stop), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            run_simulation(
                server_app=server,
                client_app=app,
                num_supernodes=clients,
                backend_config={
                    "init_args": ray_args,  # type: ignore[dict-item]
                    "client_resources": {"num_cpus": engine.cpus, "num_gpus": engine.gpus},
                },
            )
    except Interrupted as error:
        raise KeyboardInterrupt from error
    finally:
        stop.set()


@contextmanager
def _interrupt_sets(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C end the loop instead of the main thread, so that Flower and Ray shut down in order.

    A second one interrupts at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _wait_for_nodes(grid: "Grid", clients: int) -> None:
    # Flower starts the server's thread before it has registered the virtual nodes.
    end = time.monotonic() + REGISTRATION_S
    while len(list(grid.get_node_ids())) < clients:
        if time.monotonic() > end:
            raise RunError(f"Flower registered fewer than {clients} nodes within {REGISTRATION_S} seconds.")
        time.sleep(0.05)
