"""What names decide: columns, labels, categories, and what a scenario chooses where form leaves it open;
texts as token ids, and rows drawn by class.

May import from ``scenario`` downwards. Begin with ``choices``.
"""
