"""Text and what causal language models with different tokenizers say of it: pure parts, of bytes and tensors.

``causal`` says what a language model is, ``tokenizers`` makes tokens of bytes, ``marginals`` turns
probabilities of tokens into those of the next byte, ``spans`` into those of words. May import ``knowledge``
and the ground, nothing else of the project. Begin with :class:`LanguageModel`, then
:class:`fedkt.language.marginals.Continuations`.
"""

from fedkt.language.causal import LanguageModel

__all__ = ["LanguageModel"]
