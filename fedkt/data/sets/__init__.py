"""Data sets in memory, and reading them from files, functions and the Hub: ``reading`` finds one by what a
scenario writes for it, ``dataset`` says what it is then, ``preprocess`` makes a model's input of it.

May import from ``scenario`` downwards. Begin with :func:`fedkt.data.sets.reading.load_dataset`.
"""
