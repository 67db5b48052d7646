"""What methods fuse with: ``fusion`` (the result, mixtures), ``robust`` centres and filters, ``voting``, and
``server_model``, what a server trains of its own.

May import from ``adversity`` downwards. Pure functions of tensors, but for ``server_model``.
Begin with ``fusion``.
"""
