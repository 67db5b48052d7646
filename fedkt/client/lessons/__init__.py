"""What is done to a lesson before a client learns from it: classes that it never learns (``blocking``).

May import from ``client`` downwards. Begin with ``blocking``.
"""
