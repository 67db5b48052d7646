"""What a scenario comes to before anything runs: its parties (``world``), what it will send
(``traffic``), cost (``costs``, ``private``) and need (``memory``); ``guard`` stands before private data.

May import from ``results`` downwards. Begin with :class:`fedkt.engine.world.world.World`.
"""
