"""The tests on every supported Python that is at hand: ``nox`` or ``nox -s lint``."""

import nox

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False

ENVIRONMENT = {"MPLBACKEND": "Agg", "MOABB_DOWNLOAD_PROVIDER": "upstream"}


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session):
    """Run the test suite; arguments after ``--`` replace ``-m "not slow"``."""
    session.install("-e", ".[tests]")
    arguments = session.posargs or ["-m", "not slow"]
    session.run("python", "-m", "pytest", *arguments, env=ENVIRONMENT)


@nox.session(python="3.11")
def lowest(session):
    """Run the test suite with the lowest releases of the bounds."""
    extras = "testing,moabb,distributed,hbn,sweep"
    session.install("-c", "tests/lowest.txt", "-e", f".[{extras}]")
    arguments = session.posargs or ["-m", "not slow"]
    session.run("python", "-m", "pytest", *arguments, env=ENVIRONMENT)


@nox.session
def lint(session):
    """Check style and types."""
    session.install("-e", ".[lint]")
    session.run("python", "-m", "ruff", "check", ".")
    session.run("python", "-m", "mypy")


@nox.session
def docs(session):
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run(
        *("python", "-m", "sphinx", "-b", "html", "-W", "--keep-going"),
        *("docs", "docs/_build/html"),
        env=ENVIRONMENT,
    )
