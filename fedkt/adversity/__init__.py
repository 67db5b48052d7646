"""What can go wrong on purpose or by chance in a simulation: ``hostile`` clients that lie, and ``churn`` of
clients that come, go and dawdle.

May import from ``privacy`` downwards. Begin with :class:`fedkt.adversity.churn.Churn`.
"""
