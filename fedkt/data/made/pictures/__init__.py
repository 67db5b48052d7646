"""Made images: uint8 rows [n, channels, height, width].

Sizes are written in pixels of a picture of 28 and scaled to the shape that is wanted. Everything is computed
with whole numbers or correctly rounded operations, many rows at a time with the rows as the last dimension.

It may import data.made. Begin with ``shapes.py``.
"""
