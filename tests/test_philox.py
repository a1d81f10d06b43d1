"""Philox4x32-10 against its authors' known answers and a twin in Python integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import philox4x32_10

from simscope.kernels.philox import philox4x32

WORD = st.integers(0, 2**32 - 1)

# Random123, file tests/kat_vectors, philox4x32 with 10 rounds: counter and key, then result.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000 00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


def kernel_words(counter, key):
    return tuple(int(w) for w in philox4x32(*(np.uint32(w) for w in (*counter, *key))))


@pytest.mark.parametrize(("given_words", "answer"), KNOWN_ANSWERS)
def test_known_answers_of_random123(given_words, answer):
    counter, key = words(given_words)[:4], words(given_words)[4:]
    assert kernel_words(counter, key) == words(answer)
    assert philox4x32_10(counter, key) == words(answer)


@settings(max_examples=50, deadline=None)
@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
def test_kernel_equals_integer_twin(counter, key):
    assert kernel_words(counter, key) == philox4x32_10(counter, key)


def test_neighbouring_counters_and_keys_give_unrelated_words():
    # 128-bit blocks differing in one input bit: half of the output bits flip, 64 +- 4 sigma each.
    base = (7, 3, 11, 0, 5, 9)
    flips = []
    for position in range(6):
        for bit in range(32):
            changed = list(base)
            changed[position] ^= 1 << bit
            pairs = zip(
                kernel_words(base[:4], base[4:]),
                kernel_words(tuple(changed[:4]), tuple(changed[4:])),
                strict=True,
            )
            flips.append(sum((a ^ b).bit_count() for a, b in pairs))
    assert min(flips) > 64 - 5 * np.sqrt(32)
    assert max(flips) < 64 + 5 * np.sqrt(32)
    assert np.mean(flips) == pytest.approx(64, abs=4 * np.sqrt(32 / len(flips)))
