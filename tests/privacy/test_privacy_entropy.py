"""Privacy noise comes from the operating system's entropy, over the generator's whole state."""

import torch
from scipy import stats

from fedkt.privacy import entropy


def test_two_generators_differ_and_no_seed_reaches_them() -> None:
    torch.manual_seed(7)
    first = torch.randn(4, generator=entropy.generator())
    torch.manual_seed(7)
    second = torch.randn(4, generator=entropy.generator())
    assert not torch.equal(first, second)


def test_the_whole_state_is_drawn() -> None:
    """Of 624 words each differs between two generators, but for one in 2**32 by chance."""
    one, two = (entropy.generator().get_state().view(torch.int64)[3:627] for _ in range(2))
    assert (one != two).sum() >= 622
    assert (one < 2**32).all() and (one >= 0).all()


def test_the_state_is_all_that_a_generator_has() -> None:
    made = entropy.generator()
    again = torch.Generator()
    again.set_state(made.get_state())
    assert torch.equal(torch.randn(1000, generator=made), torch.randn(1000, generator=again))


def test_normal_numbers_are_normal() -> None:
    """Kolmogorov-Smirnov; a sound generator fails once in a million runs."""
    drawn = torch.randn(100_000, generator=entropy.generator()).numpy()
    assert stats.kstest(drawn, "norm").pvalue > 1e-6
