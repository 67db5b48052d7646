"""``fedkt board``: check the scenario, open the board, serve it until it is over or somebody stops it."""

import threading
import time
from pathlib import Path

from fedkt.deploy.coordinator.board_desk import BoardDesk
from fedkt.deploy.coordinator.board_server import BoardServer
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.signing import known_keys
from fedkt.engine.checks.method_checks import checked_method
from fedkt.engine.world.unused import fitted, left_out_notes
from fedkt.errors import InputError, RunError
from fedkt.files import write_atomic
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Observer, Silent
from fedkt.results.result import Result
from fedkt.scenario import Scenario, check_importable
from fedkt.strategy.board_checks import board_problems

FILE = "invitation.json"
PAUSE_S, LAST_S = 0.2, 10.0
"""Between looks at whether the board is over, and for sites to hear that it is, once all have digested."""


def checked_board(scenario: Scenario, sites: int) -> tuple[Scenario, list[str]]:
    """Return a scenario that real sites can bring to a board, and which settings were left out of it.

    Raises InputError with every problem.
    """
    scenario, left_out = fitted(scenario)
    check_importable(scenario)
    kind, config = checked_method(scenario)
    problems = [*board_problems(kind, scenario), *kind.problems(config, scenario, sites)]
    if scenario.engine.kind != "board":
        problems.append(
            f"engine.kind is '{scenario.engine.kind}', which has rounds; fedkt submit runs it, or set board."
        )
    if kind.server_transfer:
        problems.append(
            f"strategy '{scenario.strategy.name}' predicts the transfer set on the server, which holds none "
            "of its rows; it exists in simulations only."
        )
    if sites < scenario.participation.quorum:
        problems.append(
            f"--sites is {sites}, but participation.quorum is {scenario.participation.quorum}; it must be at "
            "most the number of sites."
        )
    if problems:
        raise InputError(*dict.fromkeys(problems))
    return scenario, left_out


def open_board(
    scenario: Scenario,
    out: Path,
    *,
    sites: int,
    transfer: str | None = None,
    resume: bool = False,
    observer: Observer | None = None,
) -> tuple[BoardDesk, RunFolder]:
    """Open a board in a folder, or the one that lies there; the folder is locked until it is closed."""
    scenario, left_out = checked_board(scenario, sites)
    file, watcher = out / FILE, observer or Silent()
    if resume and file.is_file():
        invitation = Invitation.read(file.read_text(encoding="utf-8"))
        if (invitation.sites, invitation.transfer) != (sites, transfer or invitation.transfer):
            raise InputError(f"{out} was begun with --sites {invitation.sites}; continue it with those.")
    else:
        invitation = Invitation.to(scenario, sites=sites, wait_s=0.0, transfer=transfer)
    folder = RunFolder.create(out, scenario, resume, run=invitation.run)
    try:
        write_atomic(file, invitation.text().encode())
        for note in left_out_notes(scenario, left_out):
            watcher.noted(note)
        return BoardDesk(invitation, scenario, folder, watcher, places=sites), folder
    except BaseException:
        folder.close()
        raise


def run_board(
    scenario: Scenario,
    out: Path,
    listen: str,
    *,
    keys: Path,
    sites: int,
    transfer: str | None = None,
    tls: tuple[Path, Path] | None = None,
    resume: bool = False,
    observer: Observer | None = None,
) -> Result:
    """Serve a board until it is over; return its result.

    ``listen``: ``HOST:PORT``; ``keys``: see :func:`~fedkt.deploy.wire.signing.known_keys`; ``sites``: how
    many take part; ``tls``: files of a certificate and its key. Raises InputError before anything is served.
    """
    address, known = address_of(listen), known_keys(keys)
    desk, folder = open_board(scenario, out, sites=sites, transfer=transfer, resume=resume, observer=observer)
    try:
        server = BoardServer(address, desk, known, tls)
        if observer is not None:
            observer.started(
                {
                    "name": scenario.name,
                    "strategy": scenario.strategy.name,
                    "engine": "board",
                    "clients": sites,
                    "rounds": scenario.rounds,
                    "round": desk.visits // sites,
                }
            )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            while not desk.over and server.failed is None:
                time.sleep(PAUSE_S)
            end = time.monotonic() + scenario.participation.deadline_s
            while desk.digesting and server.failed is None and time.monotonic() < end:
                time.sleep(PAUSE_S)
            if server.failed is not None:
                raise _failure(out, server.failed)
            time.sleep(LAST_S)
        finally:
            server.shutdown()
            server.server_close()
    finally:
        folder.close()
    return Result(folder.path)


def _failure(out: Path, error: Exception) -> RunError:
    """Return how a board ends that could not answer a call."""
    if isinstance(error, RunError):
        return error
    what = f"{error.strerror or error}" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    failed = RunError(
        f"the board in {out} stopped ({what}); what sites were told of is kept: --resume goes on."
    )
    failed.__cause__ = error
    return failed


def address_of(text: str) -> tuple[str, int]:
    """Return the host and port of ``HOST:PORT``. Raises InputError.

    >>> address_of("127.0.0.1:8443")
    ('127.0.0.1', 8443)
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"--listen is {text!r}; it must be HOST:PORT, such as 127.0.0.1:8443.")
    return host, int(port)
