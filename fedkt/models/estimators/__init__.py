"""Estimators as clients: what is fitted to all rows at once, without gradients, steps or weights.

May import from ``client`` downwards. Begin with :mod:`fedkt.models.estimators.refit`, which every one of them
goes through; ``sklearn``, ``xgboost`` and ``lightgbm`` are what a scenario names, ``saving`` and ``trees``
how the state of scikit-learn's is written. The libraries are imported when they are asked for.
"""
