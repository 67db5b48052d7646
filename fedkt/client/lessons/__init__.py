"""What is done to a lesson before a client learns from it: classes that it never learns (``blocking``),
and those that it does not know where sites have labels of their own (``knowing``).

May import from ``client`` downwards. Begin with ``blocking``.
"""
