"""What names decide: columns by name, labels by name, and what a scenario chooses where form leaves it open.

May import from ``scenario`` downwards. Begin with ``choices``.
"""
