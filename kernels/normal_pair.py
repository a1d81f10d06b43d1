"""Two independent standard normal variates from two random words, in single precision.

A point of the plane with normal coordinates lies in a direction that is uniform, at a distance r
with ``exp(-r^2 / 2)`` uniform, independent of each other: Box and Muller, Annals of Mathematical
Statistics 29, 610 (1958). One logarithm, one root and two short series make two variates, half the
work of two inversions of the normal law.
"""

import math

import numpy as np

from simscope.kernels.compiled import inlined
from simscope.kernels.numeric import (
    bits_of_float32,
    f32,
    float32_of_bits,
    floats32,
    fma,
    log32,
    polynomial,
    select,
)

SHIFT_1, SHIFT_2 = np.uint32(1), np.uint32(2)
SIGN_BIT, SWAP_BIT = np.uint32(0x80000000), np.uint32(0x40000000)
UNIT_31, HALF_UNIT_31, UNIT_32, HALF_UNIT_32, MINUS_TWO = floats32(
    2.0**-31, 2.0**-32, 2.0**-32, 2.0**-33, -2.0
)
QUARTER = math.pi / 2
COSINE_OF_QUARTERS = floats32(
    *((-1.0) ** n * QUARTER ** (2 * n) / math.factorial(2 * n) for n in range(4, -1, -1))
)
SINE_OF_QUARTERS = floats32(
    *((-1.0) ** n * QUARTER ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(4, -1, -1))
)


@inlined
def normal_pair32(distance_word, direction_word):
    """Two independent standard normal float32 (largest value 6.7).

    Of ``direction_word`` thirty bits say where in the quarter turn about the first axis the point
    lies (Taylor's series there, errors below 1e-7), one swaps the axes, one turns it half around.
    """
    u = fma(f32(np.int32(distance_word >> SHIFT_1)), UNIT_31, HALF_UNIT_31)
    distance = f32(math.sqrt(MINUS_TWO * log32(u)))
    sign = np.uint32(direction_word & SIGN_BIT).view(np.int32)
    distance = float32_of_bits(np.int32(bits_of_float32(distance) | sign))
    t = fma(f32(np.uint32(direction_word << SHIFT_2).view(np.int32)), UNIT_32, HALF_UNIT_32)
    t2 = t * t
    cosine = polynomial(t2, COSINE_OF_QUARTERS)
    sine = t * polynomial(t2, SINE_OF_QUARTERS)
    swapped = np.uint32(direction_word & SWAP_BIT) != np.uint32(0)
    return distance * select(swapped, sine, cosine), distance * select(swapped, cosine, sine)
