"""The same scenario at real sites: Flower's SuperLink at the coordinator, a SuperNode at each site.

``invitation``: what the coordinator sends; ``site`` and ``policy``: a site's own file and its will; ``desk``:
what a site keeps on its disk; ``client`` and ``server``: the two Flower apps; ``submit``: the coordinator's
command; ``node``: the site's. The round loop, strategies and client behaviours are those of every engine.
"""
