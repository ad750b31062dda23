"""A window that slides along one dim: kernel, stride, dilation, padding, and what fits.

Only arithmetic of positions; convolutions and pools share it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

PadMode: TypeAlias = Literal["same", "valid", "pad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a window slides along a dim.

    Attributes:
        length: of the dim, without padding.
        kernel: how many elements the window takes.
        stride: from one window to the next.
        dilation: from one element of a window to the next.
        before: padding in front of the dim; negative if elements are left out.
        after: padding behind it.
    """

    length: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def extent(self) -> int:
        """How far the window reaches, first and last element included."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padded(self) -> int:
        """The length with its padding."""
        return self.before + self.length + self.after

    @property
    def count(self) -> int:
        """How many windows there are."""
        return (self.padded - self.extent) // self.stride + 1

    @property
    def is_trivial(self) -> bool:
        """Whether every window is one element and every element a window."""
        return self.kernel == self.stride == 1 and self.before == self.after == 0

    @property
    def overlaps(self) -> bool:
        """Whether an element can be in several windows."""
        return self.extent > self.stride

    @property
    def tiles(self) -> bool:
        """Whether every element is in one window, and no padding is."""
        is_dense = self.dilation == 1 or self.kernel == 1
        is_whole = self.count * self.stride == self.length == self.padded
        return is_dense and self.kernel == self.stride and is_whole

    def taps(self, offset: int) -> slice:
        """Return where the element number `offset` of every window lies, padded."""
        start = offset * self.dilation
        return slice(start, start + (self.count - 1) * self.stride + 1, self.stride)

    def inside(self, offset: int) -> tuple[slice, slice]:
        """Return for which windows element `offset` is no padding, and where it lies.

        Returns:
            A slice of the windows and the slice of the dim, without padding, that they
            take there; both empty if there is no such window.
        """
        shift = offset * self.dilation - self.before
        first = max(0, -(shift // self.stride))
        last = min(self.count - 1, (self.length - 1 - shift) // self.stride)
        if last < first:
            return slice(0, 0), slice(0, 0)
        start = first * self.stride + shift
        stop = last * self.stride + shift + 1
        return slice(first, last + 1), slice(start, stop, self.stride)

    def turned(self) -> "Window":
        """Return the window of the derivative of a convolution of stride 1.

        The gradient of the input is a convolution of the gradient of the output with
        the kernel turned round.
        """
        reach = self.extent - 1
        return Window(
            length=self.count,
            kernel=self.kernel,
            dilation=self.dilation,
            before=reach - self.before,
            after=reach - self.after,
        )
