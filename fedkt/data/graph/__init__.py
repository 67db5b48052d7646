"""Links of a graph (``data.task: links``): a file of triples as numbers, and triples that are not true.

May import from ``data.columns`` downwards. Begin with :class:`fedkt.data.graph.vocabulary.Graph`; then
``triples``, which reads files, and ``corruptions``, which makes what is not true.
"""
