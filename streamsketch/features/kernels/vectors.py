"""Explicit vector steps for the compiled kernels: what plain loops would not turn into good code.

Each is written in LLVM's vectors, as wide as the machine's registers. The operations on one row are
the same in every step, in a fixed order, and a multiply-add is always rounded once: the bits do not
depend on the instruction set.

This module imports numba: import it inside functions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numba
import numba.core.cgutils
from numba.extending import intrinsic

__all__ = [
    "BLOCKS",
    "GATHERED",
    "INSTRUCTIONS",
    "PANEL",
    "butterfly",
    "fma",
    "gather",
    "project",
    "rint",
    "spread",
]

ir: Any = import_module("llvmlite.ir")
features: dict[str, bool] = import_module("llvmlite.binding").get_host_cpu_features()
types: Any = numba.types
cgutils: Any = numba.core.cgutils

FLOAT = ir.FloatType()
FREQUENCIES = 4  # frequencies per step
#: Instruction set -> rows per step and floats per vector, the best first. A step keeps FREQUENCIES x rows
#: sums in registers; the rows themselves and a repeated frequency need theirs too, else sums are spilled.
BLOCKS = {"avx512f": (64, 16), "avx2": (24, 8), "neon": (16, 4), "": (8, 4)}


def _instructions() -> str:
    """The instruction set that numba compiles for: this machine's, unless the environment names another."""
    config: Any = numba.config
    named = config.CPU_FEATURES
    if named is None:
        found = {name for name, has in features.items() if has}
    else:
        found = {part[1:] for part in named.split(",") if part.startswith("+")}
    return next((name for name in BLOCKS if name in found), "")


INSTRUCTIONS = _instructions()
PANEL, WIDTH = BLOCKS[INSTRUCTIONS]  # rows per step, floats per vector
GATHERED = 8 * WIDTH  # frequencies per step of rows that are mostly zeros
VECTOR = ir.VectorType(FLOAT, WIDTH)

Typed = tuple[Any, Callable[[Any, Any, Any, Any], Any]]


def _fma(typing: Any, a: Any, b: Any, c: Any) -> Typed:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), generate


def _rint(typing: Any, a: Any) -> Typed:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.rint", [FLOAT])
        return builder.call(function, args)

    return types.float32(types.float32), generate


fma: Any = intrinsic(_fma)  # a * b + c, rounded once
rint: Any = intrinsic(_rint)  # nearest integer, halves to even


def _array(context: Any, builder: Any, signature: Any, args: Any, i: int) -> Any:
    return context.make_array(signature.args[i])(context, builder, args[i])


def _at(builder: Any, data: Any, *terms: Any) -> Any:
    """The address data[terms[0] + terms[1] + ...]; Python integers are constants."""
    index: Any = None
    for term in terms:
        value = ir.Constant(ir.IntType(64), term) if isinstance(term, int) else term
        index = value if index is None else builder.add(index, value)
    return builder.gep(data, [index])


def _times(builder: Any, value: Any, by: int) -> Any:
    return builder.mul(value, ir.Constant(value.type, by))


def _load(builder: Any, place: Any) -> Any:
    return builder.load(builder.bitcast(place, VECTOR.as_pointer()), align=4)


def _store(builder: Any, value: Any, place: Any) -> None:
    builder.store(value, builder.bitcast(place, VECTOR.as_pointer()), align=4)


def _repeat(builder: Any, place: Any) -> Any:
    """The float at an address in all lanes."""
    single = builder.insert_element(
        ir.Constant(VECTOR, ir.Undefined), builder.load(place), ir.Constant(ir.IntType(32), 0)
    )
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(single, ir.Constant(VECTOR, ir.Undefined), lanes)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{WIDTH}f32")
    return builder.call(function, [a, b, c])


@contextmanager
def _each(builder: Any, count: Any) -> Iterator[Any]:
    with cgutils.for_range(builder, count) as loop:
        yield loop.index


def _project(typing: Any, xt: Any, w: Any, panel: Any, tile: Any, t: Any) -> Typed:
    """Write the phases of four frequencies for one panel of rows into t (4, rows).

    xt (panels, d, PANEL) are packed rows, w (tiles, d, 4) packed frequencies in turns. The sum
    over d stays in registers.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        xt, w, t = (_array(context, builder, signature, args, i) for i in (0, 1, 4))
        d = builder.extract_value(xt.shape, 1)
        rows = builder.extract_value(t.shape, 1)
        x_start = _at(builder, xt.data, _times(builder, builder.mul(args[2], d), PANEL))
        w_start = _at(builder, w.data, _times(builder, builder.mul(args[3], d), FREQUENCIES))
        lanes = range(0, PANEL, WIDTH)
        zero = ir.Constant(VECTOR, [0.0] * WIDTH)
        sums = {
            (f, lane): cgutils.alloca_once_value(builder, zero)
            for f in range(FREQUENCIES)
            for lane in lanes
        }
        for place in sums.values():
            builder.store(zero, place)
        with _each(builder, d) as k:
            at = _times(builder, k, PANEL)
            values = {lane: _load(builder, _at(builder, x_start, at, lane)) for lane in lanes}
            for f in range(FREQUENCIES):
                weight = _repeat(
                    builder, _at(builder, w_start, _times(builder, k, FREQUENCIES), f)
                )
                for lane in lanes:
                    place = sums[f, lane]
                    total = _multiply_add(builder, values[lane], weight, builder.load(place))
                    builder.store(total, place)
        for (f, lane), place in sums.items():
            row = _times(builder, rows, f)
            to = _at(builder, t.data, row, _times(builder, args[2], PANEL), lane)
            _store(builder, builder.load(place), to)
        return context.get_dummy_value()

    return types.void(xt, w, types.intp, types.intp, t), generate


def _spread(typing: Any, g: Any, w: Any, panel: Any, tile: Any, out: Any) -> Typed:
    """Add w[tile] (d, 4) times g (4, rows), one panel of rows, to out (panels, d, PANEL)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        g, w, out = (_array(context, builder, signature, args, i) for i in (0, 1, 4))
        d = builder.extract_value(out.shape, 1)
        rows = builder.extract_value(g.shape, 1)
        out_start = _at(builder, out.data, _times(builder, builder.mul(args[2], d), PANEL))
        w_start = _at(builder, w.data, _times(builder, builder.mul(args[3], d), FREQUENCIES))
        lanes = range(0, PANEL, WIDTH)
        values = {}
        for f in range(FREQUENCIES):
            for lane in lanes:
                row = _times(builder, rows, f)
                place = _at(builder, g.data, row, _times(builder, args[2], PANEL), lane)
                values[f, lane] = _load(builder, place)
        with _each(builder, d) as k:
            at = _times(builder, k, PANEL)
            places = {lane: _at(builder, out_start, at, lane) for lane in lanes}
            totals = {lane: _load(builder, place) for lane, place in places.items()}
            for f in range(FREQUENCIES):
                weight = _repeat(
                    builder, _at(builder, w_start, _times(builder, k, FREQUENCIES), f)
                )
                for lane in lanes:
                    totals[lane] = _multiply_add(builder, values[f, lane], weight, totals[lane])
            for lane in lanes:
                _store(builder, totals[lane], places[lane])
        return context.get_dummy_value()

    return types.void(g, w, types.intp, types.intp, out), generate


def _gather(typing: Any, place: Any, value: Any, row: Any, w: Any, chunk: Any, t: Any) -> Typed:
    """Write the phases of `GATHERED` frequencies for one row of few coordinates into t (GATHERED,).

    place and value (rows, many) hold how many coordinates there are, then which and their values;
    w (chunks, d, GATHERED) are packed frequencies in turns. The sums stay in registers.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, value, w, t = (_array(context, builder, signature, args, i) for i in (0, 1, 3, 5))
        d = builder.extract_value(w.shape, 1)
        start = builder.mul(args[2], builder.extract_value(place.shape, 1))
        w_start = _at(builder, w.data, _times(builder, builder.mul(args[4], d), GATHERED))
        lanes = range(0, GATHERED, WIDTH)
        zero = ir.Constant(VECTOR, [0.0] * WIDTH)
        sums = {lane: cgutils.alloca_once_value(builder, zero) for lane in lanes}
        for at in sums.values():
            builder.store(zero, at)
        count = builder.sext(builder.load(_at(builder, place.data, start)), ir.IntType(64))
        with _each(builder, count) as n:
            at = builder.add(start, n)
            k = builder.sext(builder.load(_at(builder, place.data, at, 1)), ir.IntType(64))
            repeated = _repeat(builder, _at(builder, value.data, at, 1))
            row = _times(builder, k, GATHERED)
            for lane in lanes:
                weight = _load(builder, _at(builder, w_start, row, lane))
                total = _multiply_add(builder, repeated, weight, builder.load(sums[lane]))
                builder.store(total, sums[lane])
        for lane, at in sums.items():
            _store(builder, builder.load(at), _at(builder, t.data, lane))
        return context.get_dummy_value()

    return types.void(place, value, types.intp, w, types.intp, t), generate


gather: Any = intrinsic(_gather)
project: Any = intrinsic(_project)
spread: Any = intrinsic(_spread)


def butterfly(size: int, lanes: int) -> Any:
    """Walsh-Hadamard transform of the `size` rows base + i stride of an array (s, lanes)."""

    def typed(typing: Any, a: Any, base: Any, stride: Any) -> Typed:
        return types.void(a, types.intp, types.intp), generate

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = _array(context, builder, signature, args, 0).data
        rows = [builder.add(args[1], _times(builder, args[2], i)) for i in range(size)]
        for lane in range(0, lanes, WIDTH):
            places = [_at(builder, data, _times(builder, row, lanes), lane) for row in rows]
            values = [_load(builder, place) for place in places]
            h = 1
            while h < size:
                for i in range(size):
                    if not i & h:
                        u, v = values[i], values[i + h]
                        values[i], values[i + h] = builder.fadd(u, v), builder.fsub(u, v)
                h *= 2
            for value, place in zip(values, places, strict=True):
                _store(builder, value, place)
        return context.get_dummy_value()

    return intrinsic(typed)
