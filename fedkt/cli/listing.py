"""``fedkt list``: what can be named in a scenario."""

from typing import Annotated

import typer

from fedkt import registry
from fedkt.errors import InputError

LISTS = (*registry.GROUPS, "scenarios")


def list_(
    what: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(LISTS[:-1])} and {LISTS[-1]}.",
            autocompletion=lambda incomplete: [name for name in LISTS if name.startswith(incomplete)],
        ),
    ],
) -> None:
    """List what can be named in a scenario."""
    show_names(what)


def show_names(what: str) -> None:
    """Print the names of a group with one line about each."""
    from fedkt import scenario

    if what == "scenarios":
        found = [(name, scenario_question(name)) for name in scenario.bundled()]
    elif what in registry.GROUPS:
        found = registry.describe(what)
        if what == "models":
            kinds = {
                name: "estimator" if said == "Estimator" else "net"
                for name, said in registry.returns(what).items()
            }
            found = [(name, f"{kinds[name]:<9}  {line}") for name, line in found]
    else:
        raise InputError(f"there is no list '{what}'; {registry.did_you_mean(what, LISTS)}")
    width = max((len(name) for name, _ in found), default=0)
    for name, line in found:
        print(f"{name:<{width}}  {line}".rstrip())


def scenario_question(name: str) -> str:
    """Return the question that a bundled scenario's first comment asks."""
    from importlib.resources import files

    first = (files("fedkt.scenarios") / f"{name}.yaml").read_text().partition("\n")[0]
    return first.removeprefix("#").strip().removeprefix("Question:").strip()
