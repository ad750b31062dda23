"""`Embedding`: a table of vectors, looked up by number."""

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers.checks import checked_count
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import checked_bool
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.ops.embedding import embedding
from parallel_params.tensor.tensor import Tensor


class Embedding(Cell):
    """Row number i of a table, for every i of the input.

    Args:
        vocab_size: how many rows.
        embedding_size: how long each is.
        use_one_hot: MindSpore's choice of algorithm; here both are the same lookup.
        embedding_table: law of the table, [vocab_size, embedding_size]; N(0, 0.01^2).
        dtype: of the table; one given as a Tensor keeps its own.
        padding_idx: a row that starts at zero and gets no gradient.

    Raises:
        TypeError: a size is no int, or `use_one_hot` no bool.
        ValueError: a size is not positive, `padding_idx` is none of the rows, or the
            law does not fit.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        use_one_hot: bool = False,
        embedding_table: Init = "normal",
        dtype: DType = float32,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = checked_count("vocab_size", vocab_size)
        self.embedding_size = checked_count("embedding_size", embedding_size)
        self.use_one_hot = checked_bool("use_one_hot", use_one_hot)
        if padding_idx is not None and not 0 <= padding_idx < vocab_size:
            raise ValueError(
                f"padding_idx is one of the {vocab_size} rows, not {padding_idx}"
            )
        self.padding_idx = padding_idx
        law = initializer(embedding_table, [vocab_size, embedding_size], dtype)
        if padding_idx is not None:
            law = Tensor(law)
            law.asnumpy()[padding_idx] = 0
        self.embedding_table = Parameter(law, name="embedding_table")

    def construct(self, ids: Tensor) -> Tensor:
        """Return [..., embedding_size] for ids of [...]."""
        return embedding(ids, self.embedding_table, self.padding_idx)

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"vocab_size={self.vocab_size}, embedding_size={self.embedding_size}, "
            f"use_one_hot={self.use_one_hot}, dtype={self.embedding_table.dtype}, "
            f"padding_idx={self.padding_idx}"
        )
