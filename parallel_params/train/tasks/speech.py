"""What a language model says by itself, word by word."""

from collections.abc import Sequence

import numpy as np

from parallel_params import nn
from parallel_params.tensor.random import Key, Stream
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.tasks.pieces import looking


def speak(
    net: nn.Cell,
    prompt: Sequence[int],
    *,
    num: int,
    context: int,
    keys: tuple[Key, ...],
    temperature: float = 0.8,
) -> list[int]:
    """Let a model go on with words, each drawn by the chances it gives.

    Args:
        net: gives [1, length, vocabulary] scores for [1, length] words.
        prompt: words to begin with, at least one.
        num: words to add.
        context: words the model can look back, at most.
        keys: what the draws are a function of, together with the place of a word.
        temperature: below 1 the likelier words are drawn more often.

    Returns:
        The words that were added.

    Collective: the ranks along the axes that cells of the net are cut along.
    """
    words = list(prompt)
    draws = Stream(keys).uniform(0, num)
    with looking(net):
        for draw in draws.tolist():
            window = np.array([words[-context:]], dtype=np.int32)
            scores = net(Tensor(window)).asnumpy()[0, -1].astype(np.float64)
            if not np.isfinite(scores).all():
                break
            chances = np.exp((scores - scores.max()) / temperature)
            sums = np.cumsum(chances)
            word = int(np.searchsorted(sums, draw * sums[-1], side="right"))
            words.append(min(word, len(sums) - 1))
    return words[len(prompt) :]
