"""The commands of a coordinator of real sites: one file per command.

May import from ``cli/runs`` downwards. Begin with ``submit``.
"""
