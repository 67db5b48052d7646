"""Tasks that follow each other (``data.tasks``): which rows belong to which, and whose turn it is
(``turns``).

May import from ``data`` downwards. Begin with ``turns``.
"""
