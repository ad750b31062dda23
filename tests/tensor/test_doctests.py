"""The examples in the tensor core's docstrings run and print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["grad", "gradcheck", "printing", "tape"])
def test_examples_print_what_they_say(module: str) -> None:
    found = importlib.import_module(f"parallel_params.tensor.{module}")
    failed, attempted = doctest.testmod(found)
    assert attempted
    assert not failed
