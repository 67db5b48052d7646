"""What coordinator and sites say to each other before a run (``invitation``, ``hello``, ``refusal``), how it
travels (``pack``, ``reach``), and the one place that touches Flower's deployment (``flwr_control``).

May import from ``engine`` downwards. Begin with ``invitation``.
"""
