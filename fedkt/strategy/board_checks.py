"""Which scenarios fit a board, where no round waits for anybody, and why the others do not."""

from typing import TYPE_CHECKING

from fedkt.privacy.modes import mode_of
from fedkt.scenario import Board, Engine
from fedkt.strategy.base import Strategy

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

_ROUNDS_ONLY = {
    "fraction": "nobody is asked",
    "over_select": "nobody is asked",
    "no_quorum": "nothing is begun again",
    "deadline_s": "nobody is late",
    "withdrawn": "what a client left counts until it is not fresh any more",
}
"""Settings of participation that belong to rounds, with why."""


def board_problems(strategy: type[Strategy], scenario: "Scenario") -> list[str]:
    """Return why a scenario cannot run on a board, in sentences; of another engine, whether it speaks of one.

    >>> from fedkt.scenario import load
    >>> board_problems(Strategy, load("name: a\\nboard: {half_life_s: 5}"))
    ["board is set, but engine.kind is 'ray'; leave it out, or set engine.kind to board."]
    """
    kind = scenario.engine.kind
    if kind != "board":
        if scenario.board == Board():
            return []
        return [f"board is set, but engine.kind is '{kind}'; leave it out, or set engine.kind to board."]
    return [*_of_strategy(strategy, scenario), *_of_settings(scenario), *_of_privacy(scenario)]


def no_board(strategy: type[Strategy]) -> str | None:
    """Return why a strategy cannot fuse what lies on a board, as a clause (None: it can)."""
    if not strategy.needs_transfer:
        return "its teachers are not about transfer rows"
    if strategy.extra_state is not Strategy.extra_state:
        return "remembers what it fused in each round"
    if not strategy.fuses_by_class:
        return "fuses by more than weighted means, into which age could enter"
    return None


def _of_strategy(strategy: type[Strategy], scenario: "Scenario") -> list[str]:
    why, name = no_board(strategy), scenario.strategy.name
    if why is None:
        return []
    return [
        f"engine.kind is board, but strategy '{name}' {why}; use one that can take any set of newest "
        "contributions, such as dwc, fedmd, dsfl or knfu."
    ]


def _of_settings(scenario: "Scenario") -> list[str]:
    found, part, engine = [], scenario.participation, scenario.engine
    for key, why in _ROUNDS_ONLY.items():
        if getattr(part, key) != getattr(type(part)(), key):
            found.append(f"participation.{key} is set, but on a board {why}; leave it out.")
    for key in ("workers", "address", "cpus", "gpus"):
        if getattr(engine, key) != Engine.model_fields[key].default:
            found.append(f"engine.{key} is set, but a board's clients live in one process; leave it out.")
    if isinstance(engine.cohort, int):
        found.append("engine.cohort is set, but a board's clients come one by one; leave it out.")
    transfer, tells = scenario.data.transfer, "all contributions on a board must be about the same rows"
    if transfer is not None and (transfer.asked or transfer.keep or transfer.audition or transfer.fresh):
        found.append(
            f"data.transfer chooses rows round by round, but {tells}; leave rows, keep, audition and refresh "
            "out."
        )
    spare = {
        "data.tasks": (scenario.data.tasks is not None, "tasks change with rounds that all clients share"),
        "server_model": (scenario.server_model is not None, "the server's model learns round by round"),
        "forecast": (scenario.forecast != "none", "it was fitted on rounds"),
        "placebo": (scenario.placebo, "it is a control of rounds"),
        "evaluate.every": (scenario.evaluate.every != 1, "each visit is measured"),
        "checkpoint.teachers": (scenario.checkpoint.teachers, "each visit has a teacher of its own"),
        "data.labels per-site": (scenario.data.per_site, "means are over those who know a class, not by age"),
    }
    found += [
        f"{key} is set, but engine.kind is board and {why}; leave it out."
        for key, (given, why) in spare.items()
        if given
    ]
    return found


def _of_privacy(scenario: "Scenario") -> list[str]:
    mode, privacy = mode_of(scenario.privacy), scenario.privacy
    if mode is None:
        return []
    if mode.at_server:
        return [
            f"privacy.mode is {privacy.mode}, whose noise is added once to what all clients of a round say, "
            "of which a board has none; use a mode in which each client adds its own, such as dpsgd."
        ]
    if privacy.target_epsilon is not None:
        return [
            "privacy.target_epsilon is spread over rounds, but nobody knows beforehand how often a client "
            "comes to a board; set the noise and max_epsilon, at which a client's ledger declines."
        ]
    return []
