"""``fedkt forecast``: what fusing promises each client, told from one exchange."""

from typing import TYPE_CHECKING, Annotated

import typer

from fedkt.cli.runs.options import DataDir, Overrides, ScenarioArg, Seed, load_scenario

if TYPE_CHECKING:
    from fedkt.engine.runs.foretold import Prospect
    from fedkt.strategy.fusing.forecast import Chance


def forecast(
    scenario: ScenarioArg,
    set_: Overrides = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="a,b:x=1", help="Strategies by comma, settings by semicolon [default: its own]."
        ),
    ] = None,
    seed: Seed = None,
    data_dir: DataDir = None,
) -> None:
    """Run one exchange, and say how likely fusing raises each client's accuracy above training alone."""
    import json

    from fedkt.comparing.grammar import methods
    from fedkt.engine.runs.foretold import prospects

    named = [] if strategies is None else methods(strategies)
    swaps = [[f"strategy={json.dumps(method.part)}"] for method in named] or [[]]
    found = prospects([load_scenario(scenario, [*(set_ or ()), *swap], seed) for swap in swaps], data_dir)
    print_prospects(found)


def print_prospects(found: "list[Prospect]") -> None:
    """Print a line for each client and strategy, and what is expected of all."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("strategy", "client"):
        table.add_column(name)
    for name in ("personal rises, %", "global rises, %"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(one.strategy, one.client, text(one.personal), text(one.common))
    console = Console(highlight=False)
    console.print(table)
    for strategy in dict.fromkeys(one.strategy for one in found):
        here = [one for one in found if one.strategy == strategy]
        personal, common = (
            sum(chance.probability for chance in each)
            for each in zip(*((one.personal, one.common) for one in here), strict=True)
        )
        console.print(
            f"{strategy}: of {len(here)} clients {personal:.1f} are expected to gain on rows like their own, "
            f"{common:.1f} on rows of all.",
            soft_wrap=True,
        )


def text(chance: "Chance") -> str:
    """Return a chance in per cent with its interval."""
    return f"{100 * chance.probability:.0f} ({100 * chance.low:.0f} to {100 * chance.high:.0f})"
