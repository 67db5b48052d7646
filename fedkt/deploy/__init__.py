"""The same scenario at real sites: Flower's SuperLink at the coordinator, a SuperNode at each site.

``wire`` is what both ends have in common, ``site`` what runs at a site, ``coordinator`` what runs at the
server; ``rehearsal`` plays all of them on one machine. The round loop, strategies and client behaviours are
those of every engine. May import from ``engine`` downwards. Begin with ``site/site_app`` and
``coordinator/server_app``.
"""
