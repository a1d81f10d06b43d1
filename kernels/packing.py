"""Elements of an array that lie below a threshold set side by side, and back in their places.

Work that differs from pixel to pixel runs in vector registers once those of a kind stand together.
Processors with AVX-512 move the chosen elements of a register to its front in one instruction;
others, and the interpreter, take one element at a time without branching. All sizes are multiples
of ``LANES``.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

from simscope.kernels.compiled import compiled
from simscope.kernels.wide import wide_vectors

LANES = 16
MOST = 4096
NUMBERS = np.arange(MOST, dtype=np.int32)
INLINED = {"forceinline": True, "error_model": "numpy"}


# ---- one register; the plain versions first ------------------------------------------------------


def pack(keys, threshold, below, start, values, out, position):
    """Copy the chosen of ``LANES`` values from ``start`` on to ``out`` from ``position`` on.

    Chosen are those whose keys lie below the threshold, or not below it. Returns the position
    after them; what stands behind it in ``out`` is lost.
    """
    for i in range(start, start + LANES):
        out[position] = values[i]
        position += np.int64((keys[i] < threshold) == below)
    return position


def unpack(keys, threshold, start, low, position, high, other_position, out):
    """Write ``LANES`` elements of ``out``: the next of ``low`` where keys are below, else of high.

    Returns the position in ``low`` after them.
    """
    for i in range(start, start + LANES):
        below = np.int64(keys[i] < threshold)
        out[i] = low[position] if below else high[other_position]
        position += below
        other_position += 1 - below
    return position


VECTOR = ir.VectorType(ir.FloatType(), LANES)  # 32-bit elements of any kind, moved only
MASK = ir.VectorType(ir.IntType(1), LANES)
INT16, INT32 = ir.IntType(16), ir.IntType(32)


def _everywhere(builder, vector, value):
    """Lanes that all hold one value."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT32, LANES), None))


def _place(context, builder, kind, array, index):
    """Pointer to lanes that begin at an index of a contiguous array of 32-bit elements."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


def _below(context, builder, kind, keys, threshold, start):
    """Mask of the lanes whose keys lie below the threshold."""
    lanes = builder.load(_place(context, builder, kind, keys, start), align=4)
    return builder.fcmp_ordered("<", lanes, _everywhere(builder, VECTOR, threshold))


def _moved(builder, how, values, rest, mask):
    """Values moved to the front ("compress") or from it ("expand") by the mask."""
    name = f"llvm.x86.avx512.mask.{how}.v{LANES}f32"
    function = ir.FunctionType(VECTOR, [VECTOR, VECTOR, MASK])
    callee = cgutils.get_or_insert_function(builder.module, function, name)
    return builder.call(callee, [values, rest, mask])


def _advanced(builder, position, mask):
    """The position after as many elements as the mask holds."""
    function = ir.FunctionType(INT16, [INT16])
    callee = cgutils.get_or_insert_function(builder.module, function, "llvm.ctpop.i16")
    count = builder.call(callee, [builder.bitcast(mask, INT16)])
    return builder.add(position, builder.zext(count, position.type))


@intrinsic
def _pack_instructions(typing_context, keys, threshold, below, start, values, out, position):
    def generate(context, builder, signature, arguments):
        keys, threshold, below, start, values, out, position = arguments
        kinds = signature.args
        chosen = _below(context, builder, kinds[0], keys, threshold, start)
        turned = _everywhere(builder, MASK, builder.not_(below))
        mask = builder.xor(chosen, turned)
        taken = builder.load(_place(context, builder, kinds[4], values, start), align=4)
        packed = _moved(builder, "compress", taken, ir.Constant(VECTOR, None), mask)
        builder.store(packed, _place(context, builder, kinds[5], out, position), align=4)
        return _advanced(builder, position, mask)

    index = types.intp
    return index(keys, types.float32, types.boolean, index, values, out, index), generate


@intrinsic
def _unpack_instructions(
    typing_context, keys, threshold, start, low, position, high, other_position, out
):
    def generate(context, builder, signature, arguments):
        keys, threshold, start, low, position, high, other_position, out = arguments
        kinds = signature.args
        mask = _below(context, builder, kinds[0], keys, threshold, start)
        lows = builder.load(_place(context, builder, kinds[3], low, position), align=4)
        highs = builder.load(_place(context, builder, kinds[5], high, other_position), align=4)
        spread = _moved(
            builder, "expand", highs, ir.Constant(VECTOR, ir.Undefined), builder.not_(mask)
        )
        spread = _moved(builder, "expand", lows, spread, mask)
        builder.store(spread, _place(context, builder, kinds[7], out, start), align=4)
        return _advanced(builder, position, mask)

    index = types.intp
    return index(keys, types.float32, index, low, index, high, index, out), generate


def _has_instructions():
    """Whether kernels are compiled for a processor with AVX-512."""
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    return "+avx512f" in features.split(",")


@overload(pack, jit_options=INLINED)
def _compiled_pack(keys, threshold, below, start, values, out, position):
    if not _has_instructions():
        return pack
    return lambda keys, threshold, below, start, values, out, position: _pack_instructions(
        keys, threshold, below, start, values, out, position
    )


@overload(unpack, jit_options=INLINED)
def _compiled_unpack(keys, threshold, start, low, position, high, other_position, out):
    if not _has_instructions():
        return unpack
    return lambda keys, threshold, start, low, position, high, other_position, out: (
        _unpack_instructions(keys, threshold, start, low, position, high, other_position, out)
    )


# ---- arrays -------------------------------------------------------------------------------------


@compiled
def split(keys, values, threshold, low_keys, low_values, high_keys, high_values):
    """Keys (float32) below the threshold and their values to one side, others to the other.

    Returns how many lie below. All arrays hold as many elements of 32 bits, a multiple of LANES.
    """
    wide_vectors()
    low = 0
    for start in range(0, keys.size, LANES):
        high = start - low
        pack(keys, threshold, True, start, values, low_values, low)
        pack(keys, threshold, False, start, keys, high_keys, high)
        pack(keys, threshold, False, start, values, high_values, high)
        low = pack(keys, threshold, True, start, keys, low_keys, low)
    return low


@compiled
def merge(keys, threshold, low, high, out):
    """Undo :func:`split`: elements of ``low`` and ``high`` in the order of their keys."""
    wide_vectors()
    position = 0
    for start in range(0, keys.size, LANES):
        position = unpack(keys, threshold, start, low, position, high, start - position, out)


@compiled
def places_below(keys, threshold, places):
    """Write to ``places`` (int32) where keys lie below the threshold; how many do.

    At most MOST keys.
    """
    wide_vectors()
    size = 0
    for start in range(0, keys.size, LANES):
        size = pack(keys, threshold, True, start, NUMBERS, places, size)
    return size
