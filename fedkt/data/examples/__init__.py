"""Small data sets for several labels of a row and for numbers (``data.task``): real rows that come with a
dependency, or rows made of a fixed public seed, so that a scenario runs anywhere.

A file each, whose function is an entry point of ``fedkt.datasets``. May import from ``data.sets`` downwards.
Begin with :func:`fedkt.data.examples.friedman.friedman`, the shortest.
"""
