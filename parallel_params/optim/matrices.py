"""Which parameters a rule of whole matrices can move, and which need another one."""

from collections.abc import Sequence

from parallel_params.nn.parameter import Parameter


def is_matrix(parameter: Parameter) -> bool:
    """Whether a parameter has two dims."""
    return len(parameter.shape) == 2


def check_matrices(who: str, parameters: Sequence[Parameter]) -> None:
    """Refuse parameters that are no matrices.

    Raises:
        ValueError: naming the first, its shape and the remedy.
    """
    for p in parameters:
        if not is_matrix(p):
            raise ValueError(
                f"{who} moves matrices, and parameter {p.name!r} has the shape "
                f"{p.shape}; give all that are not of two dims to a second "
                "optimizer, such as AdamW"
            )
