"""``fedkt submit``: start a run at a SuperLink, show it as ``simulate`` does, bring the results home.

The run itself is Flower's, and goes on when this command or its machine dies. ``--resume`` takes up what it
finds: a run that still goes on is only watched again, one that ended early is continued by a new Flower run
of the same invitation.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkt.deploy.coordinator.events import listen
from fedkt.deploy.wire.flwr_control import Control
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.pack import pack
from fedkt.engine.checks.method_checks import checked_method
from fedkt.engine.world.unused import fitted, left_out_notes
from fedkt.errors import InputError, RunError
from fedkt.files import write_json
from fedkt.results.folder import RunFolder, rounds_of
from fedkt.results.observer import Observer, Silent
from fedkt.results.result import Result
from fedkt.scenario import Scenario, check_importable

FILE = "deployment.json"
"""In the run's folder: the invitation without its scenario, and the Flower runs so far."""
REST = 20
"""Lines of other output that an error quotes."""


def submit(
    scenario: Scenario,
    superlink: str,
    *,
    out: Path,
    resume: bool = False,
    sites: int | None = None,
    wait_s: float = 60.0,
    transfer: str | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run a scenario at the sites behind a SuperLink and return its result.

    ``superlink``: a name in Flower's ``config.toml``; ``sites``: how many are waited for, ``wait_s``: how
    long; ``transfer``: SHA-256 of the transfer set that all must hold (None: that of most). ``data.dataset``
    and ``data.partition`` are ignored: data are the sites'. Raises InputError before anything is started,
    RunError if the run fails.
    """
    scenario, left_out = fitted(scenario)
    check_importable(scenario)
    if resume and (before := rounds_of(out)) not in (None, scenario.rounds):
        raise InputError(
            f"{out} was begun with {before} rounds at its sites, which hold to them; continue it with those, "
            "or start a new run."
        )
    kind, config = checked_method(scenario)
    if scenario.engine.kind == "board":
        raise InputError(
            "engine.kind is board, which has no rounds; 'fedkt board' runs it, fedkt submit rounds."
        )
    if "data" in kind.shares:
        raise InputError(
            f"strategy '{scenario.strategy.name}' pools all data; it exists in simulations only."
        )
    if kind.server_transfer:
        raise InputError(
            f"strategy '{scenario.strategy.name}' predicts the transfer set on the server, which holds none "
            "of its rows; it exists in simulations only."
        )
    problems = kind.problems(config, scenario, sites) if sites is not None else []
    if sites is not None and sites < scenario.participation.quorum:
        problems = [
            *problems,
            f"--sites is {sites}, but participation.quorum is {scenario.participation.quorum}; it must be "
            "at most the number of sites.",
        ]
    if problems:
        raise InputError(*problems)
    noted = _noted(out) if resume else {}
    if noted:
        sites, wait_s, transfer = noted["sites"], noted["wait_s"], noted["transfer"]
    invitation = Invitation.to(
        scenario, sites=sites, wait_s=wait_s, transfer=transfer, nonce=noted.get("nonce")
    )
    bundle, digest = pack(invitation)
    control = Control(superlink)
    try:
        folder = RunFolder.create(out, scenario, resume, run=invitation.run)
        watcher = observer or Silent()
        for note in left_out_notes(scenario, left_out):
            watcher.noted(note)
        try:
            return _follow(control, invitation, bundle, digest, folder, noted, watcher)
        finally:
            folder.close()
    finally:
        control.close()


def _follow(
    control: Control,
    invitation: Invitation,
    bundle: bytes,
    digest: str,
    folder: RunFolder,
    noted: Mapping[str, Any],
    observer: Observer,
) -> Result:
    runs: list[int] = list(noted.get("flower_runs", []))
    settings = {"nonce": invitation.nonce, "sites": invitation.sites, "wait_s": invitation.wait_s}
    settings |= {"transfer": invitation.transfer, "superlink": control.name, "app_sha256": digest}
    known = control.state(runs[-1]) if runs else None
    if known is not None and (known.active or known.ended == "completed"):
        ended, problem = _watch_or_stop(control, runs[-1], folder, observer)
        if ended or problem:
            return _result(control, runs[-1], folder, ended, problem)
        # It was only said to be running, as after a crash of the SuperLink, until its heartbeats were missed.
    runs.append(control.start(bundle, digest))
    write_json(folder.path / FILE, {**settings, "flower_runs": runs})
    ended, problem = _watch_or_stop(control, runs[-1], folder, observer)
    return _result(control, runs[-1], folder, ended, problem)


def _result(control: Control, run: int, folder: RunFolder, finished: bool, problem: str) -> Result:
    if finished:
        return Result(folder.path)
    state = control.state(run)
    why = problem or (state.details if state else "") or "its log says why"
    words = f"Flower run {run} ended early: {why.rstrip('.')}."
    raise RunError(f"{words} 'fedkt submit … --resume' continues it.")


def _watch_or_stop(control: Control, run: int, folder: RunFolder, observer: Observer) -> tuple[bool, str]:
    try:
        return _watch(control, run, folder, observer)
    except KeyboardInterrupt:
        control.stop(run)
        raise


def _watch(control: Control, run: int, folder: RunFolder, observer: Observer) -> tuple[bool, str]:
    """Follow a run's output to its end; return whether it finished, and what it said was wrong."""
    done = max((row["round"] for row in folder.rows()[0]), default=0)
    problem, rest = "", list[str]()
    for event in listen(control.output(run)):
        if isinstance(event, str):
            rest = [*rest, event][-REST:]
            continue
        match event.pop("event"):
            case "started":
                folder.truncate(event["info"]["round"])
                done = min(done, event["info"]["round"])
                observer.started(event["info"])
            case "asked":
                observer.asked(event["round"], event["stage"], event["clients"])
            case "replied":
                observer.replied(event["round"], event["stage"])
            case "round" if event["row"]["round"] > done:
                done = event["row"]["round"]
                clients = [{k: v for k, v in its.items() if k != "loss"} for its in event["clients"]]
                lost = [
                    {"round": its["round"], "client": its["client"], **its["loss"]}
                    for its in event["clients"]
                    if its.get("loss")
                ]
                folder.append(event["row"], clients, lost)
                observer.round_done(event["row"], event["clients"])
            case "refused":
                print(f"refused: {event['who']}: {event['reason']}: {event['detail']}", flush=True)
            case "waiting":
                many = "sites" if event["sites"] is None else f"{event['sites']} sites"
                print(f"waiting up to {event['seconds']:g} s for {many}", flush=True)
            case "failed":
                problem = event["problem"]
            case "finished":
                folder.finish(event["summary"])
                observer.finished(event["summary"])
                return True, ""
    if not problem:
        (folder.path / "coordinator.log").write_text("\n".join(rest) + "\n", encoding="utf-8")
    return False, problem


def _noted(out: Path) -> dict[str, Any]:
    path = out / FILE
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read, so {out} holds no run that was submitted; name its folder with --out."
        ) from error
