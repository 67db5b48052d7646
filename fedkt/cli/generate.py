"""``fedkt generate``: what a client's language model writes, before and after a run."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs.options import DataDir


def generate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="A run's folder; further ones, such as of strategy local, speak too.", metavar="RUN..."
        ),
    ],
    client: Annotated[str, typer.Option(help="Which client.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")],
    length: Annotated[int, typer.Option(help="How many bytes to write, at least.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="0: the likeliest token each time; 1: as the model believes.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    round_: Annotated[
        str, typer.Option("--round", help="last, or best: of the best figure on validation rows.")
    ] = "last",
    expert: Annotated[
        list[str] | None,
        typer.Option(help="Another client: also what the model writes where this one's learning moves it."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Experts: the kept round since which they learned [default: since they began]."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Show what a client's language model writes after a prompt, as it began and after each run."""
    from fedkt.engine.runs.generation import generated, shown

    found = generated(
        runs,
        client,
        prompt,
        length=length,
        temperature=temperature,
        seed=seed,
        round_=round_,
        experts=expert or (),
        since=since,
        data_dir=data_dir,
    )
    for example in found:
        typer.echo(f"{example.run}, {example.state}:\n{shown(prompt + example.text)}\n")
