"""The command `python -m benchmarks NAME`."""

import typer

from benchmarks import tiny_step

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("tiny-step")(tiny_step.main)


@app.callback()
def benchmarks() -> None:
    """Measure this package on this machine; every figure is a ratio within one run."""


if __name__ == "__main__":
    app()
