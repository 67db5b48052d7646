"""What can be known to be wrong with a scenario before anything runs: with the method that it chooses
(``method_checks``), its models (``model_checks``), its parties (``party_checks``), and hostile or coming and
going ones (``adversity_checks``).

May import from ``engine.world`` downwards. Begin with :func:`fedkt.engine.checks.checked.checked_world`,
which tells all of it at once.
"""
