"""The suite under other Pythons and the other MPI: `nox -s tests`, `nox -s openmpi`.

Not the gate, which is `.ci/run`: these need the Pythons that they name.
"""

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.10", "3.11", "3.13"])
def tests(session: nox.Session) -> None:
    session.install("-e", ".[mpich,test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def openmpi(session: nox.Session) -> None:
    session.install("-e", ".[openmpi,test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.install("-e", ".[mpich,test]")
    session.run("python", "-m", "ruff", "format", "--check", ".")
    session.run("python", "-m", "ruff", "check", ".")
    session.run("python", "-m", "mypy")
