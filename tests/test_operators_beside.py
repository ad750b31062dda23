"""Where the time of a step goes beside PyTorch: by families of both libraries."""

import sys

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.models import model_of
from benchmarks.operators_beside import DENSE, REST, compare, family
from parallel_params.tensor.kernel_set import kernel_set

COMMAND = "operators-beside-torch"


@pytest.mark.parametrize(
    ("operator", "of"),
    [
        ("linear", DENSE),
        ("aten::addmm", DENSE),
        ("aten::threshold_backward", DENSE),
        ("scaled_dot_product_attention", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::_log_softmax_backward_data", "cross-entropy"),
        ("aten::native_batch_norm", "norms"),
        ("layer_norm", "norms"),
        ("conv2d", "convolutions"),
        ("aten::max_pool2d_with_indices", "pools"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::copy_", REST),
    ],
)
def test_operators_of_both_libraries_have_one_family(operator: str, of: str) -> None:
    assert family(operator) == of


@pytest.mark.slow  # importing torch.optim and the compiled loops takes seconds
def test_a_table_tells_both_sets_and_pytorch_family_by_family() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("numba")

    lines = compare(model_of("8,16,4"), num_rounds=1, num_steps=2)

    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert cells[0] == ["`numpy`", "`fast`", "PyTorch"]
    rows = {name: [float(text) for text in texts] for name, *texts in cells[1:]}
    assert list(rows) == ["cross-entropy", DENSE, "optimizer", REST, "without clocks"]
    assert all(len(row) == 3 and sum(row) > 0 for row in rows.values())
    assert kernel_set().name == "numpy"


def test_without_pytorch_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = CliRunner().invoke(app, [COMMAND, "--models", "tiny"])
    assert answer.exit_code == 1
    assert "pip install torch" in answer.output


def test_a_model_that_is_not_there_is_refused() -> None:
    pytest.importorskip("torch")
    answer = CliRunner().invoke(app, [COMMAND, "--models", "resnet"])
    assert answer.exit_code == 2
    assert "resnet" in answer.output
