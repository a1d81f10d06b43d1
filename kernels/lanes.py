"""Numbers side by side: a value of ``LANES`` floats, one of each emitter, in a vector register.

What a compiler cannot be brought to do with loops over arrays: keep many running sums in registers
through a loop. Sums and products of lanes follow IEEE arithmetic, ``fma`` and ``floor`` of
``numeric`` work on them, and a plain number beside lanes counts for every one of them. A processor
without registers this wide works on parts, with the same bits.

Plain loops over arrays, which the compiler turns into such code by itself, do not need this: they
are told to use the widest registers by ``wide.py``. With compilation switched off lanes are
``PlainLanes``.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from simscope.kernels.numeric import floor, fma

LANES = 16
INLINED = {"forceinline": True, "error_model": "numpy"}


class Lanes(types.Type):
    """Numba type of ``count`` numbers of the scalar type ``kind`` side by side."""

    def __init__(self, kind, count):
        self.kind, self.count = kind, count
        super().__init__(name=f"Lanes({kind}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    """Lanes are one LLVM vector."""

    def __init__(self, manager, lanes):
        scalar = ir.FloatType() if lanes.kind == types.float32 else ir.DoubleType()
        super().__init__(manager, lanes, ir.VectorType(scalar, lanes.count))


def _place(context, builder, signature, array, index):
    """Pointer to lanes that begin at a flat index of a contiguous array."""
    start = builder.gep(
        context.make_array(signature.args[0])(context, builder, array).data, [index]
    )
    lanes = signature.args[2] if len(signature.args) > 2 else signature.return_type
    return builder.bitcast(start, context.get_value_type(lanes).as_pointer())


def _alignment(array):
    return array.dtype.bitwidth // 8


def _loader(count):
    """An intrinsic that reads lanes from a contiguous array at a flat index."""

    @intrinsic
    def load(typing_context, array, index):
        def generate(context, builder, signature, arguments):
            place = _place(context, builder, signature, *arguments)
            return builder.load(place, align=_alignment(signature.args[0]))

        return Lanes(array.dtype, count)(array, types.intp), generate

    return load


load = _loader(LANES)
load_pair = _loader(2 * LANES)


def _filler(count):
    """An intrinsic that fills lanes with one number."""

    @intrinsic
    def fill(typing_context, number):
        lanes = Lanes(number, count)

        def generate(context, builder, signature, arguments):
            return _spread(context, builder, number, arguments[0], lanes)

        return lanes(number), generate

    return fill


fill = _filler(LANES)
fill_pair = _filler(2 * LANES)


@intrinsic
def store(typing_context, array, index, lanes):
    """Write lanes to a contiguous array at a flat index."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature, *arguments[:2])
        builder.store(arguments[2], place, align=_alignment(signature.args[0]))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


def _spread(context, builder, given, value, wanted):
    """The value as lanes: a plain number fills all of them."""
    if isinstance(given, Lanes):
        return value
    vector = context.get_value_type(wanted)
    undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), wanted.count), None)
    one = builder.insert_element(undefined, context.cast(builder, value, given, wanted.kind), first)
    return builder.shuffle_vector(one, undefined, everywhere)


def _lanewise(build):
    """An intrinsic of lanes and plain numbers; ``build(builder, lanes, *vectors)`` is its code."""

    def resolve(arguments):
        lanes = next(argument for argument in arguments if isinstance(argument, Lanes))

        def generate(context, builder, signature, values):
            vectors = (
                _spread(context, builder, given, value, lanes)
                for given, value in zip(signature.args, values, strict=True)
            )
            return build(builder, lanes, *vectors)

        return lanes(*arguments), generate

    return resolve


def _instruction(name):
    """Code of an LLVM intrinsic that works lane by lane."""

    def build(builder, lanes, *vectors):
        kind = vectors[0].type
        suffix = f"v{lanes.count}f{lanes.kind.bitwidth}"
        function = ir.FunctionType(kind, [kind] * len(vectors))
        callee = cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{suffix}")
        return builder.call(callee, vectors)

    return build


_FMA, _FLOOR = _lanewise(_instruction("fma")), _lanewise(_instruction("floor"))
_SUM = _lanewise(lambda builder, lanes, a, b: builder.fadd(a, b))
_DIFFERENCE = _lanewise(lambda builder, lanes, a, b: builder.fsub(a, b))
_PRODUCT = _lanewise(lambda builder, lanes, a, b: builder.fmul(a, b))


@intrinsic
def _fma_lanes(typing_context, a, b, c):
    return _FMA((a, b, c))


@intrinsic
def _floor_lanes(typing_context, x):
    return _FLOOR((x,))


@intrinsic
def _sum_lanes(typing_context, a, b):
    return _SUM((a, b))


@intrinsic
def _difference_lanes(typing_context, a, b):
    return _DIFFERENCE((a, b))


@intrinsic
def _product_lanes(typing_context, a, b):
    return _PRODUCT((a, b))


@intrinsic
def single(typing_context, lanes):
    """Lanes of float64 rounded to float32."""
    rounded = Lanes(types.float32, lanes.count)

    def generate(context, builder, signature, arguments):
        return builder.fptrunc(arguments[0], context.get_value_type(rounded))

    return rounded(lanes), generate


@overload(fma, jit_options=INLINED)
def _fma_of_lanes(a, b, c):
    if any(isinstance(argument, Lanes) for argument in (a, b, c)):
        return lambda a, b, c: _fma_lanes(a, b, c)
    return None


@overload(floor, jit_options=INLINED)
def _floor_of_lanes(x):
    if isinstance(x, Lanes):
        return lambda x: _floor_lanes(x)
    return None


def _operator(symbol, lanewise):
    """Teach compiled code an operator of lanes."""

    @overload(symbol, jit_options=INLINED)
    def of_lanes(a, b):
        if isinstance(a, Lanes) or isinstance(b, Lanes):
            return lambda a, b: lanewise(a, b)
        return None


_operator(operator.add, _sum_lanes)
_operator(operator.sub, _difference_lanes)
_operator(operator.mul, _product_lanes)


class PlainLanes(np.ndarray):
    """Lanes where compilation is switched off: a number beside them takes their type."""

    def _with(self, work, other):
        own = self.view(np.ndarray)
        return work(own, np.asarray(other).astype(self.dtype)).view(PlainLanes)

    def __add__(self, other):
        return self._with(np.add, other)

    def __sub__(self, other):
        return self._with(np.subtract, other)

    def __mul__(self, other):
        return self._with(np.multiply, other)

    def __rsub__(self, other):
        return self._with(lambda own, given: given - own, other)

    __radd__, __rmul__ = __add__, __mul__


def _plain_loader(count):
    def load(array, index):
        return array.reshape(-1)[index : index + count].copy().view(PlainLanes)

    return load


def _plain_filler(count):
    def fill(number):
        return np.full(count, number).view(PlainLanes)

    return fill


def _plain_store(array, index, lanes):
    array.reshape(-1)[index : index + lanes.size] = lanes


def _plain_single(lanes):
    return lanes.astype(np.float32)


if config.DISABLE_JIT:
    load, load_pair = _plain_loader(LANES), _plain_loader(2 * LANES)
    fill, fill_pair = _plain_filler(LANES), _plain_filler(2 * LANES)
    store, single = _plain_store, _plain_single
