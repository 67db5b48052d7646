"""The command line: one file per command, named as the command is; ``commands`` puts them together.

May import everything. Heavy packages are imported inside the commands, so that help is immediate. Begin with
``commands``.
"""

from fedkt.cli.commands import app, main

__all__ = ["app", "main"]
