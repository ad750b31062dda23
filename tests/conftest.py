"""Settings of the whole suite: hypothesis, and the worlds that marked tests run in."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["world.plugin"]

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
