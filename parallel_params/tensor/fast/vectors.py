"""What loops cannot say in Python: a row at an address, and a block of a product.

Blocks are of explicit vectors: eight of float32 or four of float64, a register of AVX2.
A processor with other registers computes the same numbers in them, in the same order.

Whoever calls these answers for the addresses: nothing is checked.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from parallel_params.tensor.fast.compiler import Element
from parallel_params.tensor.tape import Array

# Of a block: 12 sums, 2 vectors and a number are in 15 of 16 registers.
ROWS = 6
VECTORS = 2
VECTOR_BYTES = 32
LINE_BYTES = 64  # of the cache

_Emitted: TypeAlias = tuple[Any, Callable[..., Any]]


def _row_at(_: object, like: Any, address: Any, size: Any) -> _Emitted:
    kind = types.Array(like, 1, "C")

    def emit(context: Any, builder: Any, _: object, values: Any) -> Any:
        _, start, numel = values
        row = context.make_array(kind)(context, builder)
        itemsize = context.get_constant(types.intp, like.bitwidth // 8)
        context.populate_array(
            row,
            data=builder.inttoptr(start, row.data.type),
            shape=[numel],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,
        )
        return row._getvalue()

    return kind(like, types.intp, types.intp), emit


# (a number of the element type, address, how many) -> the elements that lie there.
row_at = cast("Callable[[Element, int, int], Array]", extending.intrinsic(_row_at))


class _Vectors:
    """Emits what is done to vectors of an element type."""

    def __init__(self, builder: Any, bitwidth: int) -> None:
        self.builder = builder
        self.align = bitwidth // 8
        lanes = VECTOR_BYTES // self.align
        self.element = ir.FloatType() if bitwidth == 32 else ir.DoubleType()
        self.kind = ir.VectorType(self.element, lanes)
        self.zeros = ir.Constant(self.kind, [0.0] * lanes)
        self.everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        name = f"llvm.fma.v{lanes}f{bitwidth}"
        self.fma = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]  # Numba's
            builder.module, ir.FunctionType(self.kind, [self.kind] * 3), name
        )

    def variable(self) -> Any:
        return cgutils.alloca_once(  # type: ignore[no-untyped-call]  # Numba's
            self.builder, self.kind
        )

    def load(self, address: Any, kind: Any = None) -> Any:
        pointer = (kind or self.kind).as_pointer()
        found = self.builder.load(self.builder.inttoptr(address, pointer))
        found.align = self.align
        return found

    def store(self, value: Any, address: Any) -> Any:
        pointer = self.builder.inttoptr(address, self.kind.as_pointer())
        stored = self.builder.store(value, pointer)
        stored.align = self.align
        return stored

    def row(self, address: Any, step: Any, number: int, last: Any) -> Any:
        """Return where row `number` lies, or the last one if there are fewer."""
        own = ir.Constant(last.type, number)
        is_there = self.builder.icmp_signed("<", own, last)
        row = self.builder.select(is_there, own, last)
        return self.builder.add(address, self.builder.mul(row, step))

    def spread(self, address: Any) -> Any:
        """Return a vector of one number."""
        nothing = ir.Constant(self.kind, ir.Undefined)
        number, first = self.load(address, self.element), ir.Constant(ir.IntType(32), 0)
        single = self.builder.insert_element(nothing, number, first)
        return self.builder.shuffle_vector(single, nothing, self.everywhere)

    def traded(self, rows: list[Any], size: int) -> list[Any]:
        """Return rows of which those `size` apart have traded lanes `size` apart."""
        lanes = len(rows)
        found = []
        for i in range(lanes):
            low, high = rows[i & ~size], rows[i | size]
            # Lane j has row j's number of column i, in the bits that have been traded.
            shift = i & size
            order = [
                j + lanes - size + shift if j & size else j + shift
                for j in range(lanes)
            ]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), order)
            found.append(self.builder.shuffle_vector(low, high, mask))
        return found


def _copy_vectors(_: object, like: Any, at: Any, into: Any, num: Any) -> _Emitted:
    def emit(_: object, builder: Any, __: object, values: Any) -> None:
        _, at, into, num = values
        vectors = _Vectors(builder, like.bitwidth)
        width = ir.Constant(at.type, VECTOR_BYTES)
        with cgutils.for_range(builder, num) as loop:
            step = builder.mul(loop.index, width)
            vectors.store(vectors.load(builder.add(at, step)), builder.add(into, step))

    return types.void(like, types.intp, types.intp, types.intp), emit


# (a number of the element type, address, address to write to, how many vectors)
copy_vectors = cast(
    "Callable[[Element, int, int, int], None]", extending.intrinsic(_copy_vectors)
)


def _stream_vectors(_: object, like: Any, at: Any, into: Any, num: Any) -> _Emitted:
    def emit(_: object, builder: Any, __: object, values: Any) -> None:
        _, at, into, num = values
        vectors = _Vectors(builder, like.bitwidth)
        width = ir.Constant(at.type, VECTOR_BYTES)
        past = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        with cgutils.for_range(builder, num) as loop:
            step = builder.mul(loop.index, width)
            vector = vectors.load(builder.add(at, step))
            stored = vectors.store(vector, builder.add(into, step))
            stored.align = VECTOR_BYTES
            stored.set_metadata("nontemporal", past)

    return types.void(like, types.intp, types.intp, types.intp), emit


# The same to an address of whole vectors, past the cache: memory that is written whole
# is not read first. `settle` comes before another thread or process may read it.
stream_vectors = cast(
    "Callable[[Element, int, int, int], None]", extending.intrinsic(_stream_vectors)
)


def _settle(_: object) -> _Emitted:
    def emit(_: object, builder: Any, __: object, ___: object) -> None:
        builder.fence("seq_cst")

    return types.void(), emit


# () -> what this thread has streamed is there before what it writes from now on.
settle = cast("Callable[[], None]", extending.intrinsic(_settle))


def _turn_block(
    _: object, like: Any, at: Any, row: Any, last: Any, into: Any, into_row: Any
) -> _Emitted:
    def emit(_: object, builder: Any, __: object, values: Any) -> None:
        _, at, row, last, into, into_row = values
        vectors = _Vectors(builder, like.bitwidth)
        lanes = vectors.kind.count
        rows = [vectors.load(vectors.row(at, row, i, last)) for i in range(lanes)]
        size = 1
        while size < lanes:
            rows = vectors.traded(rows, size)
            size *= 2
        for i, vector in enumerate(rows):
            step = builder.mul(into_row, ir.Constant(at.type, i))
            vectors.store(vector, builder.add(into, step))

    return types.void(like, *[types.intp] * 5), emit


# (a number of the element type, address of a square of a vector's width, bytes from row
# to row, number of its last row, address and bytes from row to row of where it is
# written turned): rows after the last one are like it.
turn_block = cast("Callable[..., None]", extending.intrinsic(_turn_block))


def _add_block(
    _: object,
    like: Any,
    a: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    b_step: Any,
    c: Any,
    c_row: Any,
    last: Any,
    second: Any,
    num: Any,
    is_fresh: Any,
) -> _Emitted:
    def emit(_: object, builder: Any, __: object, values: Any) -> None:
        _emit_block(_Vectors(builder, like.bitwidth), values[1:])

    return types.void(like, *[types.intp] * 10, types.boolean), emit


def _emit_block(vectors: _Vectors, values: Any) -> None:
    a, a_row, a_step, b, b_step, c, c_row, last, second, num, is_fresh = values
    builder = vectors.builder
    numbers = [vectors.row(a, a_row, i, last) for i in range(ROWS)]
    starts = [vectors.row(c, c_row, i, last) for i in range(ROWS)]
    places = [at for start in starts for at in (start, builder.add(start, second))]
    # Variables, which the compiler finds registers for.
    sums = [vectors.variable() for _ in places]
    for total in sums:
        builder.store(vectors.zeros, total)
    with cgutils.for_range(builder, num) as loop:
        start = builder.add(b, builder.mul(loop.index, b_step))
        right = [vectors.load(start), vectors.load(builder.add(start, second))]
        step = builder.mul(loop.index, a_step)
        spread = [vectors.spread(builder.add(number, step)) for number in numbers]
        for i, total in enumerate(sums):
            factors = spread[i // VECTORS], right[i % VECTORS]
            more = builder.call(vectors.fma, (*factors, builder.load(total)))
            builder.store(more, total)
    with builder.if_then(builder.not_(is_fresh)):
        for total, place in zip(sums, places, strict=True):
            both = builder.fadd(vectors.load(place), builder.load(total))
            builder.store(both, total)
    for total, place in zip(sums, places, strict=True):
        vectors.store(builder.load(total), place)


# (a number of the element type; of a: address, bytes from row to row and from k to k;
# of b: address, bytes from k to k; of c: address, bytes from row to row; number of the
# last row; bytes from the first vector to the second; how many k; whether c is set, or
# the sums are added to it): `ROWS` times `VECTORS` vectors of a @ b. Rows after the
# last one are it.
add_block = cast("Callable[..., None]", extending.intrinsic(_add_block))
