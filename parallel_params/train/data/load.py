"""From a [data] table to a dataset."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError
from parallel_params.train.config.data import (
    ClustersData,
    CsvData,
    Data,
    DigitsData,
    FunctionData,
    MnistData,
    NpyData,
    NpzData,
    TextData,
    TokensData,
    TopicsData,
    WineData,
)
from parallel_params.train.data.arrays import load_npy, load_npz, make_samples
from parallel_params.train.data.clusters import Clusters
from parallel_params.train.data.dataset import Dataset
from parallel_params.train.data.digits import load_digits
from parallel_params.train.data.mnist import load_mnist
from parallel_params.train.data.tables import load_csv
from parallel_params.train.data.texts import load_text, load_tokens, load_topics
from parallel_params.train.data.wine import load_wine
from parallel_params.train.data.words import Words
from parallel_params.train.functions import find_function


def load_data(data: Data) -> Dataset:
    """Read, or map, what a [data] table names.

    Raises:
        DataError: missing, foreign or damaged.
        ConfigError: a function that is not there.
    """
    if isinstance(data, DigitsData):
        return load_digits()
    if isinstance(data, MnistData):
        return load_mnist()
    if isinstance(data, WineData):
        return load_wine()
    if isinstance(data, TopicsData):
        return load_topics(context=data.context)
    if isinstance(data, ClustersData):
        return Clusters(data)
    if isinstance(data, FunctionData):
        return _load_own(data)
    return _load_file(data)


def _load_file(data: NpzData | NpyData | CsvData | TextData | TokensData) -> Dataset:
    if isinstance(data, NpzData):
        return load_npz(data.path, is_regression=data.task == "regression")
    if isinstance(data, NpyData):
        return load_npy(
            data.x,
            data.y,
            test_x=data.test_x,
            test_y=data.test_y,
            is_regression=data.task == "regression",
        )
    if isinstance(data, CsvData):
        return load_csv(
            data.path,
            target=data.target,
            test_path=data.test_path,
            test_share=data.test_share,
            is_regression=data.task == "regression",
            standardize=data.standardize,
        )
    if isinstance(data, TextData):
        return load_text(
            data.path,
            context=data.context,
            test_path=data.test_path,
            test_share=data.test_share,
        )
    return load_tokens(
        data.path,
        dtype=data.dtype,
        vocabulary=data.vocabulary,
        context=data.context,
        test_path=data.test_path,
        test_share=data.test_share,
    )


def _load_own(data: FunctionData) -> Dataset:
    """Take what a user's function returns, and trust none of it.

    Raises:
        DataError: it does not return the arrays that its task needs.
        ConfigError: it is not there.
    """
    returned = find_function(data.function, "data.function")(**data.options)
    num = 2 if data.task == "language" else 4
    members = returned if isinstance(returned, tuple | list) else ()
    arrays = [each for each in members if isinstance(each, np.ndarray)]
    if len(arrays) != num or len(members) != num:
        wanted = "train, test" if num == 2 else "x, y, test_x, test_y"
        kinds = ", ".join(type(each).__name__ for each in members)
        raise DataError(
            f"{data.function}: returned ({kinds or type(returned).__name__}); expected "
            f'{num} arrays, {wanted}, for data.task = "{data.task}"'
        )
    facts = {"function": data.function, "options": dict(data.options)}
    if data.task == "language":
        return _words(data, arrays, facts)
    return make_samples(data.function, *arrays, is_regression=data.task == "regression")


def _words(
    data: FunctionData,
    arrays: list[NDArray[np.generic]],
    facts: Mapping[str, object],
) -> Words:
    for array in arrays:
        if array.dtype.kind not in "iu" or array.ndim != 1 or not array.size:
            raise DataError(
                f"{data.function}: an array of {array.dtype} with shape {array.shape}; "
                "words are a row of whole numbers, at least one"
            )
    return Words(
        train=arrays[0],
        test=arrays[1],
        context=data.context,
        vocabulary=1 + max(int(array.max()) for array in arrays),
        source=data.function,
        facts=facts,
    )
