"""Settings of the whole suite: hypothesis, worlds of ranks, fixtures over a world."""

import pytest
from hypothesis import HealthCheck, settings
from ranked import OnRanks, on_threads

# All ranks of a world must draw the same examples, today and tomorrow, and a machine
# that is busy must not fail a test.
settings.register_profile(
    "parallel_params",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("parallel_params")


@pytest.fixture(scope="session")
def on_ranks() -> OnRanks:
    """Run a body on 1, 2, 3 and 5 threads; in an MPI world, on its communicator."""
    return on_threads
