"""Help and errors of the command line as plain text, whatever typer and click make of them together."""

import inspect
from typing import Any, get_type_hints

import click
from typer.core import TyperCommand, TyperGroup
from typer.models import ArgumentInfo


class _Plain(click.Command):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for name, text in _told(self.callback).items():
            for parameter in self.params:
                # From click 8.5 on, which has such an attribute of its own, typer's argument loses it.
                if parameter.name == name and not getattr(parameter, "help", None):
                    parameter.help = text

    def get_help(self, ctx: click.Context) -> str:
        """Return the help without the backslashes that typer writes for rich's markup."""
        return super().get_help(ctx).replace("\\[", "[")

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write nothing here: typer writes the arguments among its own."""

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Let the error about a missing argument say what belongs there."""
        try:
            return super().make_context(*arguments, **settings)
        except click.MissingParameter as error:
            raise click.MissingParameter(getattr(error.param, "help", None), error.ctx, error.param) from None


class Command(_Plain, TyperCommand):
    """A command with plain help."""


class Group(_Plain, TyperGroup):
    """A group of commands with plain help."""


def _told(callback: Any) -> dict[str, str]:
    """Return the help of a function's arguments by their names."""
    if callback is None:
        return {}
    hints = get_type_hints(inspect.unwrap(callback), include_extras=True)
    found = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {
        name: extra.help
        for name, extras in found.items()
        for extra in extras
        if isinstance(extra, ArgumentInfo) and extra.help
    }
