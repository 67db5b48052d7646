"""Several labels of a text: what it is about. Words are counted; which site wrote it says what it likes."""

import numpy as np

from fedkt.rng import numpy_stream

ROWS, WORDS, TOPICS, SITES, LENGTH = 1500, 200, 8, 4, 30


def topics() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of 200 words in 1500 texts with 1 to 3 of 8 topics each, of four sites with other favourites.

    A text's words are drawn of the mean of its topics' distributions over words and of one that all have in
    common (Blei, Ng, Jordan 2003, "Latent Dirichlet Allocation", JMLR 3, with sparse topics); a site writes
    of two topics often and of the others seldom. Square roots of counts are the columns.
    """
    rng = numpy_stream(0, "topics")
    spoken = rng.dirichlet(np.full(WORDS, 0.05), TOPICS)
    common = rng.dirichlet(np.full(WORDS, 1.0))
    site = np.arange(ROWS) % SITES
    likes = np.full((SITES, TOPICS), 0.4 / (TOPICS - 2))
    for s in range(SITES):
        likes[s, [2 * s, 2 * s + 1]] = 0.3
    labels = np.zeros((ROWS, TOPICS), np.float32)
    counts = np.zeros((ROWS, WORDS))
    for row, s in enumerate(site.tolist()):
        about = rng.choice(TOPICS, rng.integers(1, 4), replace=False, p=likes[s])
        labels[row, about] = 1
        counts[row] = rng.multinomial(LENGTH, 0.3 * spoken[about].mean(0) + 0.7 * common)
    return np.sqrt(counts).astype(np.float32), labels, np.array([f"desk_{n}" for n in "abcd"])[site]
