"""Causal language models: what each is made of, and where it comes from.

``pretrained``: those of transformers, from a folder. May import from ``language`` downwards. Begin with
:class:`~fedkt.models.decoders.pretrained.Pretrained`.
"""
