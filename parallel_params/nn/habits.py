"""What a user of `torch.nn.Module` looks for on a cell.

MindSpore's own queries are in `nn/queries.py`; `Cell` has both.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from parallel_params.nn.parameter import Parameter
from parallel_params.nn.queries import Queries
from parallel_params.tensor.tensor import Tensor


class LoadResult(NamedTuple):
    """What `load_state_dict` found on one side only."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Habits(Queries):
    """PyTorch's spellings; each is one line of MindSpore's."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield what `parameters_and_names()` does (PyTorch's name for it)."""
        return self.parameters_and_names()

    def zero_grad(self) -> None:
        """Forget the gradients that `backward()` has accumulated below this cell."""
        for parameter in self.get_parameters():
            if parameter.grad is not None:
                parameter.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return path -> values; the tensors share memory with the parameters."""
        return {path: p.detach() for path, p in self.parameters_and_names()}

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True
    ) -> LoadResult:
        """Copy values into the parameters of these paths.

        Args:
            state_dict: path -> values.
            strict: whether every path must occur on both sides.

        Raises:
            KeyError: `strict`, and a path occurs on one side only.
            ValueError: a tensor is of another shape than its parameter.
            TypeError: a value is no tensor, or of a type that would be narrowed.
            Nothing is written if anything is raised.
        """
        own = dict(self.parameters_and_names())
        result = LoadResult(
            [path for path in own if path not in state_dict],
            [path for path in state_dict if path not in own],
        )
        if strict and (result.missing_keys or result.unexpected_keys):
            raise KeyError(
                f"{type(self).__name__}.load_state_dict: missing "
                f"{result.missing_keys}, unexpected {result.unexpected_keys}; "
                "strict=False loads the rest"
            )
        pairs = [(own[path], state_dict[path]) for path in own if path in state_dict]
        for parameter, value in pairs:
            parameter.check_data(value)
        for parameter, value in pairs:
            parameter.set_data(value)
        return result
