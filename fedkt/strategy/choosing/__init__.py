"""Which transfer rows a round asks about: ``chooser`` puts together what a row is worth (``utility``), how
rows are picked by that (``picking``), and which of several sets is talked about at all (``audition``).

May import from ``scenario``, ``data`` and the ground. Begin with
:class:`fedkt.strategy.choosing.chooser.RowChoice`.
"""
