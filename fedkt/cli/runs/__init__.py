"""The commands that make runs or work on what runs left: one file per command.

May import everything below ``cli``. Begin with ``simulate``.
"""
