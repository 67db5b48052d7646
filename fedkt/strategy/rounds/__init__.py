"""What all strategies' rounds have in common: ``course`` runs them, by ``asking``, ``receiving``
(validation), ``teachers`` and ``replay`` (a reply counts once); ``given`` is
what the server knows beforehand.

May import from ``strategy/fusing`` downwards. Begin with :class:`fedkt.strategy.rounds.course.Course`.
"""
