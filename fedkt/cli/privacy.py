"""``fedkt privacy``: what a scenario will cost, and what a folder's ledgers say was paid."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.plain import Command, Group
from fedkt.cli.runs.options import DataDir, Overrides, ScenarioArg, load_scenario

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Plan a privacy budget, or show what was spent.",
)


@app.command(cls=Command)
def plan(
    scenario: ScenarioArg,
    set_: Overrides = None,
    data_dir: DataDir = None,
) -> None:
    """Print epsilon after each coming round, and the noise that meets a target over all of them."""
    from fedkt.engine.checks.checked import checked_world
    from fedkt.engine.world.private import epsilons, privacy_notes

    world = checked_world(load_scenario(scenario, set_), data_dir)
    planned, settings = epsilons(world), world.scenario.privacy
    if not planned:
        typer.echo("privacy mode none gives no differential-privacy guarantee; there is nothing to plan.")
        return
    typer.echo(f"mode {settings.mode}, delta {settings.delta:g}, budget {settings.max_epsilon:g}")
    if world.mode is not None:
        typer.echo(f"hides one {world.mode.unit} {world.mode.change}; public is {world.mode.public}")
    for party, values in planned.items():
        client = next(iter(world.shards)) if party == "server" else party
        epsilon = " ".join(f"{value:.3f}" for value in values)
        typer.echo(f"{party}: noise {world.costs(client).noise:.4g}, epsilon after each round {epsilon}")
    for note in privacy_notes(world):
        typer.echo(f"note: {note}")


@app.command(cls=Command)
def show(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or one with ledgers in it.")],
    picture: Annotated[
        bool, typer.Option("--picture", help="Also draw where the budget went, as budget.png in the folder.")
    ] = False,
) -> None:
    """Print what every ledger below a folder says was paid, entry by entry."""
    from fedkt.errors import InputError
    from fedkt.privacy.ledger import FILE, Declined, Ledger

    found = sorted(folder.rglob(FILE)) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder} holds no privacy ledger; name a private run's folder, or a site's state.")
    for path in found:
        ledger = Ledger(path.parent)
        typer.echo(str(path.relative_to(folder).parent))
        try:
            entries = [entry for entry in ledger.entries() if entry["state"] == "reserved"]
        except Declined as no:
            raise InputError(no.detail) from None
        for number in range(1, len(entries) + 1):
            typer.echo(f"  {_line(entries[:number])}")
    if picture:
        from fedkt.privacy.budget import draw_budget

        drawn = draw_budget(folder)
        typer.echo(f"picture: {drawn}" if drawn else "nothing was paid, so there is no picture.")


@app.command(cls=Command)
def adopt(
    folder: Annotated[Path, typer.Argument(help="A ledger's folder.")],
) -> None:
    """Let a ledger count for rows that have changed: what they pay is added to what was paid."""
    from fedkt.errors import InputError
    from fedkt.privacy.ledger import FILE, Declined, Ledger

    if not (folder / FILE).is_file():
        raise InputError(f"{folder} holds no privacy ledger; name the folder of a {FILE}.")
    try:
        Ledger(folder).adopt()
    except Declined as no:
        raise InputError(no.detail) from None


def _line(entries: "list[dict[str, object]]") -> str:
    """Return the newest of some entries with what all of them cost together."""
    from typing import Any, cast

    from fedkt.privacy.accounting import Event, spent
    from fedkt.privacy.ledger import weakest_change

    newest = cast(dict[str, Any], entries[-1])
    events = [Event(**event) for entry in cast(list[dict[str, Any]], entries) for event in entry["events"]]
    cost = spent(events, newest["delta"], newest["unit"])
    what = ", ".join(
        f"{event['count']} x {event['kind']} {event['noise']:.4g}"
        + (f" at rate {event['rate']:.4g}" if event["rate"] < 1 else "")
        for event in newest["events"]
    )
    return (
        f"run {newest['run'][:8]} round {newest['round']} {newest['stage']}: {what}; epsilon so far "
        f"{cost.epsilon:.4g} at delta {newest['delta']:g} per {newest['unit']} {weakest_change(entries)} "
        f"({cost.accountant})"
    )
