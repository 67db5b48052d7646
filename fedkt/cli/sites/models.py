"""``fedkt models``: which model suits which site, within its budget."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from fedkt.cli.runs.options import DataDir, Overrides, ScenarioArg, Seed, load_scenario
from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.engine.trials.recommended import Choice

_SCALE = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kmg]?)", re.IGNORECASE)


def models(
    scenario: ScenarioArg,
    params: Annotated[
        str | None, typer.Option(metavar="N", help="Parameters at most, such as 5k [default: any].")
    ] = None,
    flops: Annotated[
        str | None, typer.Option(metavar="N", help="Operations per row at most, such as 1M [default: any].")
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(metavar="K", help="For this client alone, may be repeated [default: all]."),
    ] = None,
    set_: Overrides = None,
    seed: Seed = None,
    data_dir: DataDir = None,
) -> None:
    """Try models of the zoo within a budget on each client's own rows, and recommend one."""
    from fedkt.engine.trials.recommended import recommended

    found = recommended(
        load_scenario(scenario, set_, seed),
        data_dir,
        parameters=amount("--params", params),
        flops=amount("--flops", flops),
        clients=client,
    )
    for choice in found:
        print_choice(choice)
    print_models(found)


def amount(option: str, text: str | None) -> int | None:
    """Return a number that may end in k, M or G. Raises InputError.

    >>> amount("--params", "5k"), amount("--flops", "1.5M"), amount("--flops", None)
    (5000, 1500000, None)
    """
    if text is None:
        return None
    match = _AMOUNT.fullmatch(text.strip())
    number = 0 if match is None else int(float(match[1]) * _SCALE[match[2].lower()])
    if number < 1:
        raise InputError(
            f"{option} is {text!r}; it must be a number of at least 1, such as 5000, 5k or 1.5M."
        )
    return number


def print_choice(choice: "Choice") -> None:
    """Print what was tried for a client, the best first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("parameters", "FLOPs a row", "steps", "loss", choice.metric.title, "seconds"):
        table.add_column(name, justify="right")
    for one in choice.tried:
        model = one.candidate
        table.add_row(
            model.called,
            f"{model.parameters:,}",
            f"{model.flops:,}",
            str(one.steps or "–"),
            f"{one.loss:.3f}" if one.steps else "–",
            "–" if one.figure is None else choice.metric.text(one.figure),
            f"{one.seconds:.2f}",
        )
    console = Console(highlight=False)
    rows, judges = choice.rows
    console.print(
        f"client {choice.client}: tried on {rows} of its rows, judged by {judges}; "
        f"{len(choice.tried)} models within the budget, {choice.costly} beyond",
        soft_wrap=True,
    )
    console.print(table)
    console.print(
        f"recommended: {choice.tried[0].candidate.called}; all trials took {100 * choice.share:.0f} % of the "
        "steps that training all these models would",
        soft_wrap=True,
    )


def print_models(found: "list[Choice]") -> None:
    """Print the line of a scenario that deals each client its model, or all that were asked about theirs."""
    import yaml

    dealt = [choice.tried[0].candidate.model for choice in found]
    specs = [{"name": name, **settings} if settings else name for name, settings in dealt]
    line = yaml.safe_dump(specs, default_flow_style=True, sort_keys=False, width=10**6)
    typer.echo(f"models: {line.strip()}")
