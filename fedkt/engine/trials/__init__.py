"""Which model suits a site: models of the zoo within its budget, short trials of them on its own rows.

May import from ``engine.world`` downwards. Begin with :func:`fedkt.engine.trials.recommended.recommended`;
``halving`` says who is trained for how long, ``candidates`` what there is to choose from and what it costs.
"""
