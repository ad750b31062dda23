"""Sums, products and largest elements of rows, inside of compiled loops.

The compiler takes one element of a sum after the other, as a loop says, so these say it
in vectors: lane k of 32 takes every 32nd element from k on, eight of them what is left
of whole eights, and a tree takes the lanes. What is behind follows one by one. Vectors
are the compiler's, so bits are the same whatever registers a processor has.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

from parallel_params.tensor.fast.compiler import Element
from parallel_params.tensor.tape import Array

_LANES, _VECTORS = 8, 4

# (builder, found so far, an element of every row) -> found with those; numbers or
# vectors, and all of them LLVM's.
_Step: TypeAlias = Callable[..., Any]
# What writes a call into a compiled loop: (context, builder, signature, values).
_Emit: TypeAlias = Callable[[Any, Any, Any, Any], Any]


def _add(builder: Any, found: Any, element: Any) -> Any:
    return builder.fadd(found, element)


def _add_product(builder: Any, found: Any, left: Any, right: Any) -> Any:
    return builder.fadd(found, builder.fmul(left, right))


def _take_larger(builder: Any, found: Any, element: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", element, found), element, found)


class _Writer:
    """Writes the loops over rows of one length into the code that calls them.

    Args:
        context: of the compilation.
        builder: where it is.
        kinds: Numba's types of the rows.
        values: the rows.
        step: what is done with an element of every row.
    """

    def __init__(
        self, context: Any, builder: Any, kinds: Any, values: Any, step: _Step
    ) -> None:
        self._builder, self._step = builder, step
        self._rows = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(kinds, values, strict=True)
        ]
        self.element = context.get_value_type(kinds[0].dtype)
        self.vector = ir.VectorType(self.element, _LANES)
        self._align = context.get_abi_alignment(self.element)
        self._count = self._rows[0].nitems
        self.index = self._count.type

    def first(self) -> Any:
        """Return the first element of the first row."""
        return self._builder.load(self._rows[0].data)

    def all_lanes(self, value: Any) -> Any:
        """Return a vector of one number."""
        vector = self.vector(ir.Undefined)
        for k in range(_LANES):
            vector = self._builder.insert_element(vector, value, ir.IntType(32)(k))
        return vector

    def variable(self, value: Any) -> Any:
        """Return what a loop can change."""
        return cgutils.alloca_once_value(  # type: ignore[no-untyped-call]  # Numba's
            self._builder, value
        )

    def loop(self, start: Any, kind: Any, found: Sequence[Any]) -> Any:
        """Take elements from `start` on, as many at once as fit into all of `found`.

        Args:
            start: a place in the rows.
            kind: of what is found, number or vector.
            found: variables.

        Returns:
            Where the rest starts, which is not enough for all.
        """
        builder, index = self._builder, self.index
        width = getattr(kind, "count", 1)
        length = index(width * len(found))
        rest = builder.urem(builder.sub(self._count, start), length)
        stop = builder.sub(self._count, rest)
        with cgutils.for_range_slice(builder, start, stop, length) as (place, _):
            for k, variable in enumerate(found):
                here = builder.add(place, index(k * width))
                elements = [self._load(row, here, kind) for row in self._rows]
                so_far = builder.load(variable)
                builder.store(self._step(builder, so_far, *elements), variable)
        return stop

    def _load(self, row: Any, place: Any, kind: Any) -> Any:
        builder = self._builder
        at = builder.bitcast(builder.gep(row.data, [place]), ir.PointerType(kind))
        return builder.load(at, align=self._align)


def _emitter(step: _Step, join: _Step, *, is_sum: bool) -> _Emit:
    """Return what writes a reduction.

    Args:
        step: takes an element of every row.
        join: takes what another lane has found.
        is_sum: whether lanes start with 0, else with the first element.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        writer = _Writer(context, builder, signature.args, values, step)
        first = writer.element(0) if is_sum else writer.first()
        lanes = [writer.variable(writer.all_lanes(first)) for _ in range(_VECTORS)]
        stop = writer.loop(writer.index(0), writer.vector, lanes)
        stop = writer.loop(stop, writer.vector, lanes[:1])
        a, b, c, d = (builder.load(found) for found in lanes)
        whole = join(builder, join(builder, a, b), join(builder, c, d))
        found = writer.variable(_joined(builder, whole, join))
        writer.loop(stop, writer.element, [found])
        return builder.load(found)

    return emit


def _joined(builder: Any, vector: Any, join: _Step) -> Any:
    """Join the upper half of the lanes to the lower half, down to one number."""
    while vector.type.count > 1:
        half = vector.type.count // 2
        lower, upper = (
            builder.shuffle_vector(
                vector,
                vector.type(ir.Undefined),
                ir.VectorType(ir.IntType(32), half)(list(places)),
            )
            for places in (range(half), range(half, 2 * half))
        )
        vector = join(builder, lower, upper)
    return builder.extract_element(vector, ir.IntType(32)(0))


_TOTAL = _emitter(_add, _add, is_sum=True)
_DOT = _emitter(_add_product, _add, is_sum=True)
_LARGEST = _emitter(_take_larger, _take_larger, is_sum=False)


def _of_rows(emit: _Emit, *rows: Any) -> Any:
    for row in rows:
        if not isinstance(row, types.Array) or row.ndim != 1 or row.layout != "C":
            return None  # Numba says then that it knows no such call
    return rows[0].dtype(*rows), emit


def _total(_: object, row: Any) -> Any:
    return _of_rows(_TOTAL, row)


def _dot(_: object, row: Any, other: Any) -> Any:
    return _of_rows(_DOT, row, other)


def _largest(_: object, row: Any) -> Any:
    return _of_rows(_LARGEST, row)


# The sum of a row.
total = cast("Callable[[Array], Element]", extending.intrinsic(_total))
# The sum of the products of two rows of one length and type.
dot = cast("Callable[[Array, Array], Element]", extending.intrinsic(_dot))
# The largest number of a row that has one; what it is beside a NaN is left open, and if
# there are no others it is a NaN.
largest = cast("Callable[[Array], Element]", extending.intrinsic(_largest))
