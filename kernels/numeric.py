"""Elementary functions whose every bit is ours: fma, log, exp and the normal quantile.

Library logarithms differ in the last bit between machines, and a compiler free to contract
``a * b + c`` differs between a CPU and a GPU. Both would move a count across a rounding edge now
and then. So a product that feeds a sum is an explicit fused multiply-add here, only IEEE
operations (+, -, *, /, sqrt, floor) are used besides, and no function is larger than a scalar
body, so that it compiles for any target.

Sources of the coefficients: logarithm in float64 from fdlibm (Sun Microsystems, ``e_log.c``); the
others from Cephes (Moshier, ``logf.c``, ``expf.c``, ``exp.c``); normal quantile from Wichura,
Applied Statistics 37, 477 (1988), AS 241.
"""

import math

import numpy as np
from numba.extending import intrinsic, overload
from numba.types import Float

from simscope.kernels.compiled import compiled, inlined

f32 = np.float32
f64 = np.float64


def floats32(*values):
    """The values as a tuple of float32, so that compiled code keeps single precision."""
    return tuple(f32(value) for value in values)


# The only places that speak to the compiler's own instructions. Python twins first: they run
# when compilation is switched off, the overloads run otherwise.


def fma(a, b, c):
    """``a * b + c`` with one rounding, in the type of the arguments."""
    for value in (a, b, c):
        if isinstance(value, np.ndarray):
            return _fma_of_lanes(value, a, b, c)
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    (a_n, a_d), (b_n, b_d), (c_n, c_d) = (float(v).as_integer_ratio() for v in (a, b, c))
    exact = (a_n * b_n * c_d + c_n * a_d * b_d) / (a_d * b_d * c_d)
    return type(a)(exact)


def _fma_of_lanes(lanes, *values):
    """``fma`` of every lane of the values, plain numbers counting for all.

    In float64, where products of float32 are exact: the sum is rounded twice once in 2^29 times.
    """
    if lanes.dtype == f32:
        a, b, c = (np.asarray(value, f32).astype(f64) for value in values)
        return (a * b + c).astype(f32).view(type(lanes))
    same = [np.broadcast_to(np.asarray(value, f64), lanes.shape) for value in values]
    done = [fma(*of_lane) for of_lane in zip(*same, strict=True)]
    return np.array(done).view(type(lanes))


def select(condition, a, b):
    """``a`` where the condition holds, else ``b``: both are computed, nothing branches."""
    return a if condition else b


def floor(x):
    """Largest whole number not above ``x``, in the type of ``x``."""
    if isinstance(x, np.ndarray):
        return np.floor(x)
    return type(x)(math.floor(x)) if math.isfinite(x) else x


def product(a, b):
    """``a * b`` rounded by itself: no compiler may fuse it with a sum that follows."""
    return a * b


@intrinsic
def _fma_instruction(typing_context, a, b, c):
    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, a, a), generate


@intrinsic
def _select_instruction(typing_context, condition, a, b):
    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return a(condition, a, b), generate


@intrinsic
def _product_instruction(typing_context, a, b):
    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments, arguments[0].type(0.0))

    return a(a, a), generate


@intrinsic
def _floor_instruction(typing_context, x):
    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        instruction = builder.module.declare_intrinsic("llvm.floor", [kind])
        return builder.call(instruction, arguments)

    return x(x), generate


@overload(fma, jit_options={"forceinline": True, "error_model": "numpy"})
def _compiled_fma(a, b, c):
    if a != b or a != c or not isinstance(a, Float):
        return None

    def instruction(a, b, c):
        return _fma_instruction(a, b, c)

    return instruction


@overload(select, jit_options={"forceinline": True, "error_model": "numpy"})
def _compiled_select(condition, a, b):
    if a != b:
        return None

    def instruction(condition, a, b):
        return _select_instruction(condition, a, b)

    return instruction


@overload(product, jit_options={"forceinline": True, "error_model": "numpy"})
def _compiled_product(a, b):
    if a != b or not isinstance(a, Float):
        return None

    def instruction(a, b):
        return _product_instruction(a, b)

    return instruction


@overload(floor, jit_options={"forceinline": True, "error_model": "numpy"})
def _compiled_floor(x):
    if not isinstance(x, Float):
        return None

    def instruction(x):
        return _floor_instruction(x)

    return instruction


@inlined
def bits_of_float32(x):
    """IEEE bit pattern of a float32, as int32."""
    return f32(x).view(np.int32)


@inlined
def float32_of_bits(bits):
    """The float32 with this int32 bit pattern."""
    return np.int32(bits).view(np.float32)


@inlined
def bits_of_float64(x):
    """IEEE bit pattern of a float64, as int64."""
    return f64(x).view(np.int64)


@inlined
def float64_of_bits(bits):
    """The float64 with this int64 bit pattern."""
    return np.int64(bits).view(np.float64)


@inlined
def polynomial(x, coefficients):
    """Value at ``x`` of the polynomial with these coefficients, highest power first (Horner)."""
    value = coefficients[0]
    for i in range(1, len(coefficients)):
        value = fma(value, x, coefficients[i])
    return value


# ---- float64 ------------------------------------------------------------------------------------

SQRT_HALF_64 = np.int64(0x3FE6A09E00000000)  # bits of sqrt(1/2), cut
FRACTION_BITS_64 = np.int64(52)
EXPONENT_BIAS_64 = np.int64(1023)
LN2_HIGH = 6.93147180369123816490e-01  # trailing zeros: its product with a small integer is exact
LN2_LOW = 1.90821492927058770002e-10
LOG_64 = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)


@inlined
def log64(x):
    """Natural logarithm of a positive normal float64, error below 1 ulp (fdlibm).

    With x = 2^k (1 + f), sqrt(1/2) < 1 + f < sqrt(2), and s = f / (2 + f):
    log(1 + f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + R(s^2))).
    """
    bits = bits_of_float64(x)
    k = (bits - SQRT_HALF_64) >> FRACTION_BITS_64
    f = float64_of_bits(bits - (k << FRACTION_BITS_64)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    half_f = 0.5 * f
    inner = fma(polynomial(z, LOG_64), z, half_f * f)
    k = f64(k)
    small = fma(s, inner, k * LN2_LOW)
    return fma(k, LN2_HIGH, f - fma(half_f, f, -small))


LOG2_E = 1.4426950408889634073599
LN2_EXP_HIGH = 6.93145751953125e-1
LN2_EXP_LOW = 1.42860682030941723212e-6
EXP_P_64 = (1.26177193074810590878e-4, 3.02994407707441961300e-2, 9.99999999999999999910e-1)
EXP_Q_64 = (
    3.00198505138664455042e-6,
    2.52448340349684104192e-3,
    2.27265548208155028766e-1,
    2.00000000000000000009e0,
)
EXP_LOWEST_64 = -708.0  # below it the result would leave the normal numbers


@inlined
def exp64(x):
    """Exponential of a float64 in [-708, 709], error below 2 ulp; 0 below -708 (Cephes).

    With x = n ln 2 + r: exp(r) = 1 + 2 r P(r^2) / (Q(r^2) - r P(r^2)).
    """
    within = max(x, EXP_LOWEST_64)
    n = floor(fma(within, LOG2_E, 0.5))
    r = fma(n, -LN2_EXP_LOW, fma(n, -LN2_EXP_HIGH, within))
    z = r * r
    p = polynomial(z, EXP_P_64)
    value = fma(2.0, (p * r) / fma(-p, r, polynomial(z, EXP_Q_64)), 1.0)
    power = float64_of_bits((np.int64(n) + EXPONENT_BIAS_64) << FRACTION_BITS_64)
    return select(x < EXP_LOWEST_64, 0.0, value * power)


QUANTILE_CENTRE_NUMERATOR = (
    2.5090809287301226727e3,
    3.3430575583588128105e4,
    6.7265770927008700853e4,
    4.5921953931549871457e4,
    1.3731693765509461125e4,
    1.9715909503065514427e3,
    1.3314166789178437745e2,
    3.3871328727963666080e0,
)
QUANTILE_CENTRE_DENOMINATOR = (
    5.2264952788528545610e3,
    2.8729085735721942674e4,
    3.9307895800092710610e4,
    2.1213794301586595867e4,
    5.3941960214247511077e3,
    6.8718700749205790830e2,
    4.2313330701600911252e1,
    1.0,
)
QUANTILE_TAIL_NUMERATOR = (
    7.74545014278341407640e-4,
    2.27238449892691845833e-2,
    2.41780725177450611770e-1,
    1.27045825245236838258e0,
    3.64784832476320460504e0,
    5.76949722146069140550e0,
    4.63033784615654529590e0,
    1.42343711074968357734e0,
)
QUANTILE_TAIL_DENOMINATOR = (
    1.05075007164441684324e-9,
    5.47593808499534494600e-4,
    1.51986665636164571966e-2,
    1.48103976427480074590e-1,
    6.89767334985100004550e-1,
    1.67638483018380384940e0,
    2.05319162663775882187e0,
    1.0,
)
QUANTILE_FAR_NUMERATOR = (
    2.01033439929228813265e-7,
    2.71155556874348757815e-5,
    1.24266094738807843860e-3,
    2.65321895265761230930e-2,
    2.96560571828504891230e-1,
    1.78482653991729133580e0,
    5.46378491116411436990e0,
    6.65790464350110377720e0,
)
QUANTILE_FAR_DENOMINATOR = (
    2.04426310338993978564e-15,
    1.42151175831644588870e-7,
    1.84631831751005468180e-5,
    7.86869131145613259100e-4,
    1.48753612908506148525e-2,
    1.36929880922735805310e-1,
    5.99832206555887937690e-1,
    1.0,
)


@compiled
def normal_quantile64(q):
    """Standard normal quantile at probability ``q + 1/2``, relative error 1e-15 (AS 241)."""
    return normal_quantile_tail64(q, 0.5 - abs(q))


@compiled
def normal_quantile_tail64(q, tail):
    """As :func:`normal_quantile64`; ``tail = 1/2 - abs(q)`` > 0 keeps the digits ``q`` has lost."""
    if abs(q) <= 0.425:
        r = fma(-q, q, 0.180625)
        ratio = polynomial(r, QUANTILE_CENTRE_NUMERATOR) / polynomial(
            r, QUANTILE_CENTRE_DENOMINATOR
        )
        return q * ratio
    r = math.sqrt(-log64(tail))
    if r <= 5.0:
        r -= 1.6
        x = polynomial(r, QUANTILE_TAIL_NUMERATOR) / polynomial(r, QUANTILE_TAIL_DENOMINATOR)
    else:
        r -= 5.0
        x = polynomial(r, QUANTILE_FAR_NUMERATOR) / polynomial(r, QUANTILE_FAR_DENOMINATOR)
    return math.copysign(x, q)


# ---- float32 ------------------------------------------------------------------------------------

SQRT_HALF_32 = np.int32(0x3F3504F3)
FRACTION_BITS_32 = np.int32(23)
EXPONENT_BIAS_32 = np.int32(127)
ZERO_32, HALF_32, ONE_32 = floats32(0.0, 0.5, 1.0)
LN2_HIGH_32, LN2_LOW_32 = floats32(0.693359375, -2.12194440e-4)
LOG2_E_32 = f32(LOG2_E)
LOG_32 = floats32(
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
EXP_32 = floats32(
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)


@inlined
def exponent_and_rest32(x):
    """k and f of a positive normal float32 ``2^k (1 + f)``, with sqrt(1/2) < 1 + f < sqrt(2)."""
    bits = bits_of_float32(x)
    k = np.int32(np.int32(bits - SQRT_HALF_32) >> FRACTION_BITS_32)
    return f32(k), float32_of_bits(np.int32(bits - np.int32(k << FRACTION_BITS_32))) - ONE_32


@inlined
def log32(x):
    """Natural logarithm of a positive normal float32, error below 1 ulp (Cephes).

    With x = 2^k (1 + f), sqrt(1/2) < 1 + f < sqrt(2): log(1 + f) = f - f^2/2 + f^3 P(f).
    """
    k, f = exponent_and_rest32(x)
    z = f * f
    small = fma(k, LN2_LOW_32, polynomial(f, LOG_32) * f * z)
    return fma(k, LN2_HIGH_32, f + fma(-HALF_32, z, small))


@inlined
def exp32(x):
    """Exponential of a float32 in [-87, 88], error below 2 ulp (Cephes)."""
    n = floor(fma(x, LOG2_E_32, HALF_32))
    r = fma(n, -LN2_LOW_32, fma(n, -LN2_HIGH_32, x))
    value = fma(polynomial(r, EXP_32) * r, r, r) + ONE_32
    power = float32_of_bits(np.int32(np.int32(np.int32(n) + EXPONENT_BIAS_32) << FRACTION_BITS_32))
    return value * power


HALF_RANGE = np.uint32(0x80000000)
SIGN_SHIFT = np.int32(31)
LARGEST_INT32 = np.int32(0x7FFFFFFF)
WORD_UNIT, HALF_WORD_UNIT = floats32(2.0**-32, 2.0**-33)


@inlined
def centred_word(word):
    """Random word as int32, ``word - 2^31``: the sign says which half of (0, 1) it lies in."""
    return np.uint32(word ^ HALF_RANGE).view(np.int32)


@inlined
def centred_uniform32(word):
    """Uniform float32 in (-1/2, 1/2): ``(word + 1/2) / 2^32 - 1/2``."""
    return fma(f32(centred_word(word)), WORD_UNIT, HALF_WORD_UNIT)


@inlined
def tail_uniform32(word):
    """Distance of :func:`centred_uniform32` from the nearer end, without loss of digits."""
    signed = centred_word(word)
    size = np.int32(signed ^ np.int32(signed >> SIGN_SHIFT))  # of x and -1 - x the one >= 0
    return fma(f32(np.int32(LARGEST_INT32 - size)), WORD_UNIT, HALF_WORD_UNIT)
