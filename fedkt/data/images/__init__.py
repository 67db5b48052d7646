"""Images as they come: what the numbers of an array mean (``levels``), pictures of a table (``decoding``).

Imports nothing but the ground. Begin with ``levels``.
"""
