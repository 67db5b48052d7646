"""What is done to a lesson before a client learns from it: classes that it never learns (``blocking``),
those that it does not know where sites have labels of their own (``knowing``), its own answers mixed in
(``snapshot``); the rows of one of its tasks (``turning``), and images turned as labels say (``views``); and a
copy that is brought to the transfer rows before it speaks of them (``adapting``), what it sees them through
(``sensing``) and which labels it asks for (``labelling``); and how well what was learned stands up
(``watching``).

May import from ``client`` downwards. Begin with ``blocking``.
"""
