"""What a command starts: one simulation (``run``), one exchange (``foretold``), figures of tasks in sequence
(``sequenced``); and what may go of finished ones (``leftovers``).

May import all other rooms of ``engine``. Begin with ``run``.
"""
