"""The command `python -m benchmarks NAME`."""

import typer

from benchmarks import (
    against_torch,
    cable,
    checkpoint,
    exchange,
    kernels,
    kills,
    leak,
    memory,
    operators,
    operators_beside,
    reshard,
    same_bits,
    step,
    tiny_step,
)

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("against-torch")(against_torch.main)
app.command("tiny-step")(tiny_step.main)
app.command("step")(step.main)
app.command("exchange")(exchange.main)
app.command("cable")(cable.main)
app.command("kernels")(kernels.main)
app.command("memory")(memory.main)
app.command("operators")(operators.main)
app.command("operators-beside-torch")(operators_beside.main)
app.command("checkpoint")(checkpoint.main)
app.command("kills")(kills.main)
app.command("reshard")(reshard.main)
app.command("leak")(leak.main)
app.command("same-bits")(same_bits.main)


@app.callback()
def benchmarks() -> None:
    """Measure this package on this machine; every figure is a ratio within one run."""


if __name__ == "__main__":
    app()
