"""The rounds: two exchanges each, results and a checkpoint after each.

May import from ``engine/clients`` downwards. Begin with :class:`fedkt.engine.loop.loop.Loop`.
"""
