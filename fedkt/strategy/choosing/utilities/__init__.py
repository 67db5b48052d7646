"""What a transfer row is worth asking about: one file for each utility, larger is asked sooner.

The two halves of a selection, a utility and a mechanism that picks by it, are those of Albalak et al. 2024,
"A survey on data selection for language models", arXiv:2402.16827; ``fedkt.strategy.choosing.utility`` has
the table of all utilities. May import nothing but torch and what lies here. Begin with ``doubt.py``.
"""
