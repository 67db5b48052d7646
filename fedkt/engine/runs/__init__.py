"""What a command starts: one simulation (``run``), one again without a client (``withdrawal``), one exchange
(``foretold``); and what may go of finished ones (``leftovers``).

May import all other rooms of ``engine``. Begin with ``run``.
"""
