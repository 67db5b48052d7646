"""Causal language models: what each is made of, and where it comes from.

``pretrained``: those of transformers, from a folder; ``bundled``: a small one, trained from scratch;
``speaker``: any of them as a client's model. May import from ``client`` downwards. Begin with
:class:`~fedkt.models.decoders.speaker.Speaker`.
"""
