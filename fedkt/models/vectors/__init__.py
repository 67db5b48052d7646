"""Models of rows that are ids: a vector for each word (``text``), or for each entity and relation (``kge``).

May import from ``models`` downwards. Begin with ``kge``.
"""
