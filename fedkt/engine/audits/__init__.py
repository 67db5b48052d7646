"""``fedkt audit``: a run with canaries in it, what it released, the attacks on that, and bugs that an audit
must find.

May import from ``engine.runtimes`` downwards. Begin with ``audited``.
"""
