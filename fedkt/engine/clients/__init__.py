"""A client at work: ``party`` handles one message, ``jobs`` is what it wants computed, ``cohorts`` and
``cohort_training`` compute the jobs of many as one stacked model.

May import from ``engine/world`` downwards. Begin with :class:`fedkt.engine.clients.party.Party`.
"""
