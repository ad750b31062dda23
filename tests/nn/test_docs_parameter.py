"""The page `docs/parameter.md`: every example runs, every row points to one."""

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "parameter.md"
OPTIONS = doctest.ELLIPSIS


def sections() -> dict[str, tuple[str, int]]:
    """Return title -> (text, first line); the first is the preamble."""
    # A fence would be taken for expected output; a blank line ends it.
    text = re.sub(r"^```.*$", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found, line = {}, 0
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        found[part.splitlines()[0].lstrip("# ")] = (part, line)
        line += part.count("\n")
    return found


SECTIONS = sections()
PREAMBLE, *TITLES = SECTIONS


def run(title: str, names: dict[str, object]) -> None:
    text, line = SECTIONS[title]
    parsed = doctest.DocTestParser().get_doctest(text, names, title, str(PAGE), line)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    runner.run(parsed, out=said.append, clear_globs=False)
    assert not said, "".join(said)
    names.update(parsed.globs)


@pytest.mark.parametrize("title", TITLES)
def test_every_example_does_what_the_page_says(title: str) -> None:
    names: dict[str, object] = {}
    run(PREAMBLE, names)
    run(title, names)


def test_every_row_points_to_an_example_that_runs() -> None:
    for title in TITLES:
        text, _ = SECTIONS[title]
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        for row in rows[1:]:
            assert re.search(r"\(#example-\d+\)", row.split("|")[-2]), row


def test_examples_are_numbered_and_linked() -> None:
    text = PAGE.read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="example-(\d+)"></a>\*\*(\d+)\.\*\*', text)
    assert anchors == [(str(n), str(n)) for n in range(1, len(anchors) + 1)]
    links = set(re.findall(r"\[(\d+)\]\(#example-(\d+)\)", text))
    assert links == set(anchors)
