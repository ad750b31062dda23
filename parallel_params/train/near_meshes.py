"""The meshes and worlds that are nearest to one that a job does not work on."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from parallel_params.plan.mesh import Mesh
from parallel_params.train.config.job import Job
from parallel_params.train.config.rules import divisors
from parallel_params.train.cut_lengths import cut_lengths

_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for.

    Attributes:
        job: what would be trained.
        sizes: of the axes as the job names them; 0 is what is left of the world.
        axis: along which the model is cut, if it is.
        num_outputs: words or classes of the data, once they were read.
    """

    job: Job
    sizes: Mapping[str, int]
    axis: str | None
    num_outputs: int | None = None

    def remedy(self, num_ranks: int) -> str:
        """Name the meshes of a world that work, and the nearest worlds that do."""
        near, worlds = self._near(num_ranks), self._worlds(num_ranks)
        remedies = []
        if near:
            are = "meshes of {} are" if " or " in near else "mesh of {} is"
            remedies.append(f"the nearest {are.format(num_ranks)} {near}")
        if worlds:
            starts = " or ".join(map(str, worlds))
            remedies.append(f"start {starts} {'rank' if worlds == [1] else 'ranks'}")
        if not remedies:
            smaller = range(num_ranks - 1, 0, -1)
            found = ((n, self._near(n)) for n in smaller)
            remedies = [f"start {n} ranks with {each}" for n, each in found if each][:1]
        none = "" if near else f"no mesh of {num_ranks} works; "
        return none + ", or ".join(remedies)

    def _is_workable(self, sizes: Mapping[str, int]) -> bool:
        """Tell whether the job can be cut, and its batch shared, on such a mesh."""
        mesh = Mesh(sizes, layerwise_axis=self.axis)
        size = 1 if self.axis is None else mesh.group_size((self.axis,))
        lengths = cut_lengths(self.job, self.num_outputs).values()
        parts = self.job.parallel.grains
        parts = parts or self.job.data.batch // self.job.train.accumulate
        is_cut = all(length % size == 0 for length in lengths)
        return is_cut and parts % mesh.num_shares == 0

    def _near(self, num_ranks: int) -> str:
        """Name meshes of a world that work, those cut as asked for first."""
        works = (each for each in self._meshes(num_ranks) if self._is_workable(each))
        return " or ".join(written(each) for each in islice(works, _MOST_NAMED))

    def _meshes(self, num_ranks: int) -> Iterator[dict[str, int]]:
        keep = self.axis if self.axis is not None else next(iter(self.sizes))
        others = [name for name in self.sizes if name != keep]
        wanted = self.sizes.get(keep, 1)
        near = sorted(divisors(num_ranks), key=lambda n: (abs(n - wanted), n))
        for number in near if others else [num_ranks]:
            mesh = dict.fromkeys(self.sizes, 1) | {keep: number}
            if others:
                mesh[others[0]] = num_ranks // number
            yield mesh

    def _worlds(self, num_ranks: int) -> list[int]:
        """Return the nearest worlds that the mesh would fill and that work."""
        known = math.prod(size for size in self.sizes.values() if size)

        def works(multiple: int) -> bool:
            filled = {name: size or multiple for name, size in self.sizes.items()}
            return self._is_workable(filled)

        if 0 not in self.sizes.values():
            return [known] if known != num_ranks and works(1) else []
        middle = num_ranks // known
        at_all = [n for n in range(middle, 0, -1) if n * known != num_ranks]
        below = [n for n in at_all if works(n)][:1]
        above = [n for n in range(middle + 1, 2 * middle + 5) if works(n)][:1]
        return [n * known for n in below + above]


def written(sizes: Mapping[str, int]) -> str:
    """Write a mesh as a job names it."""
    return "{ " + ", ".join(f"{name} = {size}" for name, size in sizes.items()) + " }"
