"""Two inner loops as vector code of LLVM, which numba lets in among its own: it runs on any processor.

numba cannot be told which numbers to keep in registers, nor may it regroup a sum of floating-point numbers. Both are
said here. A 16-bit product of pairs, summed in 32 bits, is one instruction on most processors, and does two to four
times the work of a float32 one; LLVM finds it where there is one.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

QUERIES = 12  # vectors that are multiplied with a panel at once: with it, their sums fill the registers of AVX-512
PANEL = 32  # vocabulary entries that lie together

_LANES = 16
_VECTORS = PANEL // _LANES
_I64, _I32, _F64 = ir.IntType(64), ir.IntType(32), ir.DoubleType()
_Sums = ir.VectorType(_I32, _LANES)
_Doubles = ir.VectorType(_F64, 8)
_Floats = ir.VectorType(ir.FloatType(), PANEL)
_Panel = ir.VectorType(_I32, PANEL)


def _int(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _load(builder: Any, array: Any, at: Any, vector: ir.Type, align: int) -> Any:
    pointer = builder.gep(array, [at])
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)


def _loop(builder: Any, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Emit a loop that carries values from turn to turn; returns what they are after `count` turns."""
    before, head = builder.block, builder.append_basic_block("head")
    turn, after = builder.append_basic_block("turn"), builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(_I64)
    carried = [builder.phi(value.type) for value in start]
    for phi, value in zip([i, *carried], [_int(0), *start], strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", i, count), turn, after)
    builder.position_at_end(turn)
    changed = body(i, carried)
    for phi, value in zip([i, *carried], [builder.add(i, _int(1)), *changed], strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return carried


@intrinsic
def products(typingctx, left, i, right, j, out, k):
    """``products(left, i, right, j, out, k)``: inner products of 12 vectors with the 32 of a panel, exact.

    Parameters
    ----------
    left : int32 array (blocks, pairs, 12), contiguous
        Vectors of 16-bit numbers, two to an int32: see `attnxr.search.kernels.quantise`.
    i : int
        Which block of them.
    right : int32 array (panels, pairs, 32), contiguous
    j : int
        Which panel of them.
    out : int32 array (12 · blocks, 32), contiguous
    k : int
        Which block of it to fill.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [context.make_array(signature.args[n])(context, builder, arguments[n]) for n in (0, 2, 4)]
        lefts, rights, outs = (array.data for array in arrays)
        pairs = cgutils.unpack_tuple(builder, arrays[0].shape)[1]
        first = builder.mul(arguments[1], builder.mul(pairs, _int(QUERIES)))
        second = builder.mul(arguments[3], builder.mul(pairs, _int(PANEL)))
        undefined, everywhere = ir.Constant(_Sums, ir.Undefined), ir.Constant(_Sums, [0] * _LANES)
        halves, wide = ir.VectorType(ir.IntType(16), 2 * _LANES), ir.VectorType(_I32, 2 * _LANES)
        even, odd = (ir.Constant(_Sums, list(range(start, 2 * _LANES, 2))) for start in (0, 1))

        def multiplied(a: Any, b: Any) -> Any:
            """Sums of the products of the pairs: LLVM knows this pattern."""
            a, b = (builder.sext(builder.bitcast(each, halves), wide) for each in (a, b))
            product, nothing = builder.mul(a, b), ir.Constant(wide, ir.Undefined)
            return builder.add(
                builder.shuffle_vector(product, nothing, even), builder.shuffle_vector(product, nothing, odd)
            )

        def body(pair: Any, sums: list[Any]) -> list[Any]:
            at = builder.add(second, builder.mul(pair, _int(PANEL)))
            entries = [_load(builder, rights, builder.add(at, _int(n * _LANES)), _Sums, 4) for n in range(_VECTORS)]
            at = builder.add(first, builder.mul(pair, _int(QUERIES)))
            changed = []
            for q in range(QUERIES):
                one = builder.load(builder.gep(lefts, [builder.add(at, _int(q))]))
                one = builder.insert_element(undefined, one, ir.Constant(_I32, 0))
                one = builder.shuffle_vector(one, undefined, everywhere)
                for n, entry in enumerate(entries):
                    changed.append(builder.add(sums[q * _VECTORS + n], multiplied(one, entry)))
            return changed

        sums = _loop(builder, pairs, [ir.Constant(_Sums, None)] * (QUERIES * _VECTORS), body)
        start = builder.mul(arguments[5], _int(QUERIES * PANEL))
        for n, value in enumerate(sums):
            pointer = builder.gep(outs, [builder.add(start, _int(n * _LANES))])
            builder.store(value, builder.bitcast(pointer, _Sums.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(left, types.intp, right, types.intp, out, types.intp), generate


def _judge(squared: bool) -> Callable:
    """Build one of the `judge` functions: with ends of ``|u|²`` (`low`, `high`) in the score, or without."""

    @intrinsic
    def judge(typingctx, g, i, A, B, C, R, low, high, p, numbers, reach):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays = [
                context.make_array(signature.args[n])(context, builder, arguments[n]).data
                for n in (0, 2, 3, 4, 5, 6, 7)
            ]
            products, a, b, c, r, lows, highs = arrays
            undefined, everywhere = ir.Constant(_Floats, ir.Undefined), ir.Constant(_Panel, [0] * PANEL)

            def spread(value: Any) -> Any:
                one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
                return builder.shuffle_vector(one, undefined, everywhere)

            def together(one: Any, other: Any, third: Any) -> Any:
                """Give one · other + third, rounded once where that is as fast."""
                of_three = ir.FunctionType(_Floats, [_Floats] * 3)
                fused = cgutils.get_or_insert_function(builder.module, of_three, f"llvm.fmuladd.v{PANEL}f32")
                return builder.call(fused, [one, other, third])

            def load(array: Any) -> Any:
                return _load(builder, array, builder.mul(arguments[8], _int(PANEL)), _Floats, 4)

            def bits(flags: Any) -> Any:
                return builder.zext(builder.bitcast(flags, ir.IntType(PANEL)), _I64)

            given = cgutils.unpack_tuple(builder, arguments[9])
            size, noise, inverse, shift, offset = (spread(value) for value in given[:5])
            own_low, own_high, reach = (spread(builder.fneg(value)) for value in (*given[5:], arguments[10]))
            sums = _load(builder, products, builder.mul(arguments[1], _int(PANEL)), _Panel, 4)
            sums = builder.sitofp(sums, _Floats)
            product = together(load(a), sums, together(load(b), shift, builder.fmul(load(c), offset)))
            error = together(load(r), size, noise)
            # Of minus the score: that spares a sign.
            least, most = builder.fsub(product, error), builder.fadd(product, error)
            if squared:
                least = together(builder.fneg(load(highs)), inverse, least)
                most = together(builder.fneg(load(lows)), inverse, most)
            # Ordered comparisons: a NaN, from a number beyond float32, leaves its entry open.
            nearer = builder.fcmp_ordered(">", least, own_low)
            known = builder.or_(nearer, builder.fcmp_ordered("<", most, own_high))
            beyond = builder.fcmp_ordered("<", most, reach)
            found = [builder.ctpop(bits(nearer)), bits(builder.not_(known)), bits(builder.not_(beyond))]
            return context.make_tuple(builder, signature.return_type, found)

        answer = types.UniTuple(types.intp, 3)
        return answer(g, types.intp, A, B, C, R, low, high, types.intp, numbers, types.float32), generate

    return judge


judge = _judge(squared=False)
judge_squared = _judge(squared=True)


@intrinsic
def lowest(typingctx, bits):
    """``lowest(bits)``: place of the lowest bit that is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.intp), generate


@intrinsic
def dot(typingctx, left, i, right, j, n):
    """``dot(left, i, right, j, n)``: inner product of n float64 numbers of two contiguous arrays, from i and j on.

    In one order, whatever surrounds it: equal numbers give equal bits.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lefts, rights = (context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (0, 2))
        i, j, n = arguments[1], arguments[3], arguments[4]

        def multiplied(at: Any, kind: ir.Type) -> Any:
            one, other = (
                _load(builder, data, builder.add(start, at), kind, 8) for data, start in ((lefts, i), (rights, j))
            )
            return builder.fmul(one, other)

        def vectors(turn: Any, sums: list[Any]) -> list[Any]:
            at = builder.mul(turn, _int(16))
            return [builder.fadd(sums[m], multiplied(builder.add(at, _int(8 * m)), _Doubles)) for m in range(2)]

        turns = builder.sdiv(n, _int(16))
        pair = _loop(builder, turns, [ir.Constant(_Doubles, None)] * 2, vectors)
        total = builder.fadd(*pair)
        parts = [builder.extract_element(total, ir.Constant(_I32, m)) for m in range(8)]
        while len(parts) > 1:
            parts = [builder.fadd(*parts[m : m + 2]) for m in range(0, len(parts), 2)]
        done = builder.mul(turns, _int(16))
        rest = _loop(
            builder,
            builder.sub(n, done),
            [ir.Constant(_F64, 0.0)],
            lambda turn, sums: [builder.fadd(sums[0], multiplied(builder.add(done, turn), _F64))],
        )
        return builder.fadd(parts[0], rest[0])

    return types.float64(left, types.intp, right, types.intp, types.intp), generate
