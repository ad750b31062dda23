"""`with` over what all ranks close together."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Closing(ABC):
    """Closes itself at the end of a `with` block; only lets go if its body raises."""

    @abstractmethod
    def close(self) -> None:
        """Free what was made here.

        Collective: all ranks.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Let go of what is this rank's own; the other ranks may be anywhere."""

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            # Freeing communicators could hang.
            self.abandon()
