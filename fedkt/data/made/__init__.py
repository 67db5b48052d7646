"""Transfer rows that are made: drawn by a public program from a public seed, so that nobody has to give any.

A generator (entry points ``fedkt.generators``) turns what is public of a data set
(:mod:`~fedkt.data.made.public`) and raw random numbers (:mod:`~fedkt.data.made.draws`) into raw rows; a
recipe (:mod:`~fedkt.data.made.recipe`) names generator, settings, seed and size, and makes the rows of every
round. Images are in ``pictures``, tables in ``ranges`` and ``normal``, texts in ``words``, ``ids`` and
``ngrams``.

It may import data.sets, data.content and what lies below them. Begin with ``recipe.py``, then ``ranges.py``.
"""
