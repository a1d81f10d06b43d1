"""Philox4x32-10, a counter-based random generator: four words in, four random words out.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11 (2011). The
generator is a bijection of the 128-bit counter, chosen by a 64-bit key; distinct counters never
collide and nothing is remembered between calls. All arithmetic is on integers, so every machine
gives the same words.
"""

import numpy as np

from simscope.kernels.compiled import inlined

ROUNDS = 10
MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
KEY_STEP_0 = np.uint64(0x9E3779B9)  # golden ratio
KEY_STEP_1 = np.uint64(0xBB67AE85)  # sqrt(3) - 1
LOW_WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)


@inlined
def low_word(x):
    """Low 32 bits of a uint64, as uint32."""
    return np.uint32(x & LOW_WORD)


@inlined
def philox_round(c0, c1, c2, c3, k0, k1):
    """Counter after one round: two 32x32-bit products, crossed and mixed with the key.

    Words are the low halves of uint64; what stands above them is cut off where it would count,
    at the products. That spares vector units all moving between 32 and 64 bits.
    """
    product_0 = MULTIPLIER_0 * (c0 & LOW_WORD)
    product_1 = MULTIPLIER_1 * (c2 & LOW_WORD)
    return (
        (product_1 >> WORD_BITS) ^ c1 ^ k0,
        product_1,
        (product_0 >> WORD_BITS) ^ c3 ^ k1,
        product_0,
    )


@inlined
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four random uint32 words of counter ``(c0, c1, c2, c3)`` under key ``(k0, k1)``.

    In this project the counter is ``(element, step, sample, draw)``. Salmon et al. 2011, section
    3.3; the first round uses the key as given, each later one the key stepped by constants.
    """
    c0, c1, c2, c3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    key_0, key_1 = np.uint64(k0), np.uint64(k1)
    for _ in range(ROUNDS):
        c0, c1, c2, c3 = philox_round(c0, c1, c2, c3, key_0, key_1)
        key_0 += KEY_STEP_0
        key_1 += KEY_STEP_1
    return low_word(c0), low_word(c1), low_word(c2), low_word(c3)
