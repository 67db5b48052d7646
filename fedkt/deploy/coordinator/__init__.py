"""What runs at the coordinator: ``submission`` starts a run, ``reception`` seats the sites, ``server_app``
runs the rounds.

May import from ``deploy/wire`` downwards. Begin with ``server_app``.
"""
