"""What a command starts: one simulation (``run``), one with canaries (``audited``), an attack on a finished
one (``inverted``), one again without a client (``withdrawal``), one exchange (``foretold``); and what may go
of finished ones (``leftovers``).

May import all other rooms of ``engine``. Begin with ``run``.
"""
