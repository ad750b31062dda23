import pytest

from parallel_params.plan import text


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 60, "1024.0 PiB")],
)
def test_bytes_are_shown_in_the_nearest_unit(num_bytes: int, shown: str) -> None:
    assert text.format_bytes(num_bytes) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(4e-6, "4 us"), (0.0123, "12.3 ms"), (83.0, "83 s")]
)
def test_seconds_are_shown_in_the_nearest_unit(seconds: float, shown: str) -> None:
    assert text.format_seconds(seconds) == shown


def test_names_are_listed_as_in_a_sentence() -> None:
    assert text.name_all(["a"]) == "a"
    assert text.name_all(["a", "b", "c"]) == "a, b and c"
    assert text.name_some(["a", "b"], most=2) == "a, b"
    assert text.name_some(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert text.plural(1, "rank") == "1 rank"
    assert text.plural(12000, "rank") == "12 000 ranks"
