"""Every Python example of the pages for readers does what the page says."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# docs/parameter.md has a test of its own, tests/nn/test_docs_parameter.py.
PAGES = ("README.md", "docs/how-it-works.md", "docs/operators.md")
LINKED = (
    *PAGES,
    "docs/parameter.md",
    "docs/running.md",
    "docs/benchmarks.md",
    "CONTRIBUTING.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_every_example_does_what_the_page_says(page: str) -> None:
    # A fence would be taken for expected output; a blank line ends it.
    text = re.sub(r"^```.*$", "", (ROOT / page).read_text(), flags=re.MULTILINE)
    parsed = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert parsed.examples
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    runner.run(parsed, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("page", LINKED)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    broken = [
        target
        for target in targets
        if "://" not in target and not (ROOT / page).parent.joinpath(target).exists()
    ]
    assert not broken


@pytest.mark.slow  # plans of thousands of ranks
@pytest.mark.parametrize("page", [*PAGES[:2], "docs/running.md"])
def test_every_plan_that_a_page_asks_for_can_be_made(page: str) -> None:
    from typer.testing import CliRunner

    from parallel_params.cli.app import app

    commands = re.findall(r"pparams (plan [^`#\n]*)", (ROOT / page).read_text())
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
