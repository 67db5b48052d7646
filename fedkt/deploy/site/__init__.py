"""What runs at a site: its file and will (``site_file``, ``policy``), its disk (``desk``), the process that
handles a message (``client_process``, ``site_app``), and ``node``, which keeps it running.

May import from ``deploy/wire`` downwards. Begin with ``site_app``.
"""
