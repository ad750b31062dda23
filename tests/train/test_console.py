"""What a run says: whole lines, no carriage returns in a file, rank 0 alone."""

import dataclasses
import io

from parallel_params.train.console import Console, Row, folded, grouped, make_progress

ROW = Row(step=50, num_steps=600, loss=0.61273, lr=3e-3, samples_per_s=9839.7)
LOOK = dataclasses.replace(ROW, step=100, scores={"accuracy": 0.8722})


def test_a_row_is_one_line() -> None:
    assert ROW.text() == ("  step  50/600  loss 0.6127   lr 3.0e-03    9 840 samples/s")
    assert LOOK.text().endswith("  accuracy 0.8722")


def test_a_row_of_an_ordinary_run_fits_a_terminal() -> None:
    long = dataclasses.replace(LOOK, step=9999, num_steps=9999, samples_per_s=9e5)
    assert len(long.text()) < 80
    assert len(dataclasses.replace(long, loss=12.3).text()) < 80


def test_sentences_are_folded_and_rows_are_not() -> None:
    words = " ".join(["word"] * 40)
    first, *others = folded(f"job   {words}", hang=6).splitlines()
    assert len(others) == 2
    assert all(len(line) < 80 for line in (first, *others))
    assert all(line.startswith("      word") for line in others)
    assert " ".join([first[6:], *(line.strip() for line in others)]) == words
    row = f"    {'cell  ' * 30}"
    assert folded(row, hang=2) == row
    path = "next  open /" + "long-name/" * 12
    assert folded(path, hang=6).split() == path.split()


def test_numbers_are_grouped_by_three_digits() -> None:
    assert [grouped(n) for n in (0, 999, 26122, 1234567)] == [
        "0",
        "999",
        "26 122",
        "1 234 567",
    ]


def shown(width: int, style: str, *, is_quiet: bool = False, rank: int = 0) -> str:
    stream = io.StringIO()
    console = Console(stream=stream, width=width, is_quiet=is_quiet).of_rank(rank)
    progress = make_progress(console, style, num_steps=600)  # type: ignore[arg-type]  # from a table
    progress.advance(1)
    progress.show(ROW)
    progress.advance(100)
    progress.show(LOOK)
    progress.close()
    return stream.getvalue()


def test_a_file_gets_plain_lines_without_carriage_returns() -> None:
    for style in ("auto", "plain"):
        assert shown(0, style) == f"{ROW.text()}\n{LOOK.text()}\n"


def test_a_terminal_gets_a_bar_and_keeps_the_looks_as_lines() -> None:
    text = shown(100, "auto")
    assert "50/600" in text
    assert "9 840 samples/s" in text
    assert "accuracy 0.8722" in text
    assert "\x1b[" in text


def test_a_terminal_gets_plain_lines_if_asked() -> None:
    assert shown(100, "plain") == shown(0, "plain")


def test_a_bar_may_be_asked_for_where_no_terminal_is_known() -> None:
    assert "\x1b[" in shown(0, "bar")


def test_other_ranks_and_quiet_runs_say_nothing() -> None:
    for style in ("auto", "bar", "plain", "off"):
        assert shown(100, style, rank=1) == ""
        assert shown(100, style, is_quiet=True) == ""
    assert shown(100, "off") == ""
