"""Loops that use the widest vector registers a processor has.

LLVM prefers registers of 256 bits on processors that also have 512, a choice made for code that
uses them now and then. For loops of nothing but arithmetic on arrays in the first-level cache the
wide ones are about 1.5 times as fast. Only speed depends on it: lanes never meet, bits stay.
"""

from numba import types
from numba.extending import intrinsic, overload

PREFERENCE = '"prefer-vector-width"="512"'


def wide_vectors():
    """Say so at the head of a compiled function with such loops; it stays a function of its own."""


@intrinsic
def _prefer_wide(typing_context):
    def generate(context, builder, signature, arguments):
        attributes = builder.function.attributes
        attributes.add("noinline")  # a caller's loops would be compiled by the caller's preference
        set.add(attributes, PREFERENCE)  # llvmlite's own add() knows no attributes with a value
        return context.get_dummy_value()

    return types.none(), generate


@overload(wide_vectors, inline="always")
def _compiled_wide_vectors():
    def prefer():
        _prefer_wide()

    return prefer
