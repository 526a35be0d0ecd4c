"""A vector of eight float32 for compiled kernels: `Vec8` with + - * /, comparisons and select.

Left to itself the compiler turns short masked loops into branches; with a vector type each line of a kernel is one
instruction on eight pixels, on every CPU (LLVM splits the vector where registers are shorter). Operations are only
usable inside functions compiled by `parallel.jit`.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import overload, register_model

from dgtalker.render.parallel import intrinsic

LANES = 8
# Sums may be regrouped and multiply-adds fused, but values that are not finite keep their meaning.
FLAGS = ("contract", "reassoc", "arcp", "nsz")

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)


class Vec8(types.Type):
    """Eight float32."""

    def __init__(self) -> None:
        super().__init__(name="Vec8")


class Mask8(types.Type):
    """Eight truth values."""

    def __init__(self) -> None:
        super().__init__(name="Mask8")


vec8, mask8 = Vec8(), Mask8()


@register_model(Vec8)
class _Vec8Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:
        super().__init__(manager, fe_type, _FLOATS)


@register_model(Mask8)
class _Mask8Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:
        super().__init__(manager, fe_type, _BITS)


def _constant(vector_type: ir.VectorType, value) -> ir.Constant:
    return ir.Constant(vector_type, [value] * LANES)


def _broadcast(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_FLOATS, ir.Undefined), _constant(_INTS, 0))


@intrinsic
def splat(typing_context, value):
    """One float32 in all lanes."""

    def generate(context, builder, signature, arguments):
        return _broadcast(builder, context.cast(builder, arguments[0], signature.args[0], types.float32))

    return vec8(value), generate


@intrinsic
def lane_numbers(typing_context):
    """0, 1, ... 7."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(_FLOATS, [float(lane) for lane in range(LANES)])

    return vec8(), generate


def _pointer(context, builder, signature, arguments):
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    element = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(element, _FLOATS.as_pointer())


@intrinsic
def load(typing_context, array, start):
    """array[start : start + 8] of a contiguous flat float32 array, bounds unchecked."""

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature, arguments), align=4)

    return vec8(array, types.intp), generate


@intrinsic
def store(typing_context, array, start, value):
    """array[start : start + 8] = value, bounds unchecked."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _pointer(context, builder, signature, arguments), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec8), generate


@intrinsic
def select(typing_context, mask, if_true, if_false):
    """Per lane: if_true where the mask is set, else if_false."""

    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return vec8(mask8, vec8, vec8), generate


@intrinsic
def any_lane(typing_context, mask):
    """Whether any lane of a mask is set."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(mask8), generate


@intrinsic
def sum_lanes(typing_context, value):
    """Sum of the eight lanes (pairwise)."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0]
        for step in (4, 2, 1):
            order = ir.Constant(_INTS, [(lane + step) % LANES for lane in range(LANES)])
            vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, order), flags=FLAGS)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return types.float32(vec8), generate


@intrinsic
def truncate(typing_context, value):
    """Towards zero to a whole number; |value| < 2^31."""

    def generate(context, builder, signature, arguments):
        return builder.sitofp(builder.fptosi(arguments[0], _INTS), _FLOATS)

    return vec8(vec8), generate


@intrinsic
def power_of_two(typing_context, whole):
    """2^whole for whole numbers in -126..127."""

    def generate(context, builder, signature, arguments):
        exponent = builder.add(builder.fptosi(arguments[0], _INTS), _constant(_INTS, 127))
        return builder.bitcast(builder.shl(exponent, _constant(_INTS, 23)), _FLOATS)

    return vec8(vec8), generate


def _binary(generate_operation, result):
    """An intrinsic on two Vec8, either of which may be a scalar that is broadcast."""

    @intrinsic
    def operation(typing_context, left, right):
        def generate(context, builder, signature, arguments):
            operands = [
                value if kind == vec8 else _broadcast(builder, context.cast(builder, value, kind, types.float32))
                for value, kind in zip(arguments, signature.args, strict=True)
            ]
            return generate_operation(builder, *operands)

        return result(left, right), generate

    return operation


def _involves_vector(left, right) -> bool:
    return vec8 in (left, right) and all(kind == vec8 or isinstance(kind, types.Number) for kind in (left, right))


_ADD = _binary(lambda builder, a, b: builder.fadd(a, b, flags=FLAGS), vec8)
_SUBTRACT = _binary(lambda builder, a, b: builder.fsub(a, b, flags=FLAGS), vec8)
_MULTIPLY = _binary(lambda builder, a, b: builder.fmul(a, b, flags=FLAGS), vec8)
_DIVIDE = _binary(lambda builder, a, b: builder.fdiv(a, b, flags=FLAGS), vec8)
_LESS = _binary(lambda builder, a, b: builder.fcmp_ordered("<", a, b), mask8)
_LESS_EQUAL = _binary(lambda builder, a, b: builder.fcmp_ordered("<=", a, b), mask8)
_GREATER = _binary(lambda builder, a, b: builder.fcmp_ordered(">", a, b), mask8)


@overload(operator.add)
@overload(operator.iadd)
def _add(left, right):
    return (lambda left, right: _ADD(left, right)) if _involves_vector(left, right) else None


@overload(operator.sub)
def _subtract(left, right):
    return (lambda left, right: _SUBTRACT(left, right)) if _involves_vector(left, right) else None


@overload(operator.mul)
def _multiply(left, right):
    return (lambda left, right: _MULTIPLY(left, right)) if _involves_vector(left, right) else None


@overload(operator.truediv)
def _divide(left, right):
    return (lambda left, right: _DIVIDE(left, right)) if _involves_vector(left, right) else None


@overload(operator.lt)
def _less(left, right):
    return (lambda left, right: _LESS(left, right)) if _involves_vector(left, right) else None


@overload(operator.le)
def _less_equal(left, right):
    return (lambda left, right: _LESS_EQUAL(left, right)) if _involves_vector(left, right) else None


@overload(operator.gt)
def _greater(left, right):
    return (lambda left, right: _GREATER(left, right)) if _involves_vector(left, right) else None


@intrinsic
def mask_and(typing_context, left, right):
    """Per lane: left and right."""

    def generate(context, builder, signature, arguments):
        return builder.and_(*arguments)

    return mask8(mask8, mask8), generate


minimum = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b), vec8)
maximum = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b), vec8)
