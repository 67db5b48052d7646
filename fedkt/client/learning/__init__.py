"""What a model is to the engine, whatever it is: something that learns, predicts and has a state.

May import from ``client`` downwards. Begin with :class:`fedkt.client.learning.learner.Learner`; ``refitting``
says what a model learns that is fitted anew each time.
"""
