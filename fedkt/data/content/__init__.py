"""Rows by their content: hashes of rows and of whole sets (``same_rows``, ``transfer_set``), and rows that
are in two ``roles``; rows that clients do not use any more (``withheld``); how many lie near which
(``census``).

May import from ``data/sets`` downwards. Begin with ``roles``.
"""
