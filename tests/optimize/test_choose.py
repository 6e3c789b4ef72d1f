from optimize.choose import choose
from optimize.measure import Measured


def measured(speedup, accuracy=0.9, size=100):
    return Measured(size, 10 / speedup, accuracy, original_ms=10)


def test_the_fastest_is_chosen():
    assert choose([measured(1.5), measured(3.0), measured(2.0)]) == 1


def test_among_those_about_as_fast_the_most_accurate():
    assert choose([measured(3.0, 0.90), measured(2.9, 0.91), measured(2.0, 0.99)]) == 1


def test_then_the_smallest_and_then_the_first():
    assert choose([measured(3.0), measured(3.0, size=90), measured(3.0, size=90)]) == 1
