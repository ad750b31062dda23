"""Every Python example of the pages for readers does what the page says."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ["README.md", "CONTRIBUTING.md"]
LINKED += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
# docs/parameter.md has a test of its own, tests/nn/test_docs_parameter.py.
TEXTS = {page: (ROOT / page).read_text() for page in LINKED}
PAGES = [p for p in LINKED if p != "docs/parameter.md" and ">>>" in TEXTS[p]]
PLANNING = [page for page in LINKED if "pparams plan " in TEXTS[page]]


@pytest.mark.parametrize("page", PAGES)
def test_every_example_does_what_the_page_says(page: str) -> None:
    # A fence would be taken for expected output; a blank line ends it.
    text = re.sub(r"^```.*$", "", TEXTS[page], flags=re.MULTILINE)
    parsed = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert parsed.examples
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    runner.run(parsed, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("page", LINKED)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = TEXTS[page]
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    broken = [
        target
        for target in targets
        if "://" not in target and not (ROOT / page).parent.joinpath(target).exists()
    ]
    assert not broken


@pytest.mark.slow  # plans of thousands of ranks
@pytest.mark.parametrize("page", PLANNING)
def test_every_plan_that_a_page_asks_for_can_be_made(page: str) -> None:
    from typer.testing import CliRunner

    from parallel_params.cli.app import app

    commands = re.findall(r"pparams (plan [^`#\n]*)", TEXTS[page])
    assert commands
    for command in commands:
        words = command.replace("JOB", "digits").replace("[key=value ...]", "").split()
        answer = CliRunner().invoke(app, words)
        assert answer.exit_code == 0, f"pparams {command}: {answer.exception}"


def test_the_page_of_keys_is_what_the_command_prints() -> None:
    from parallel_params.cli.keys import describe_keys

    page = (ROOT / "docs/job-keys.md").read_text()
    assert page == describe_keys(as_markdown=True) + "\n", (
        "run: pparams config keys --markdown > docs/job-keys.md"
    )
