"""Which word comes next in a text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.train.data.words import Words
from parallel_params.train.losses import LossFunction
from parallel_params.train.tasks.ngrams import ngram_bits
from parallel_params.train.tasks.pieces import PIECE, judge_all
from parallel_params.train.tasks.speech import speak
from parallel_params.train.tasks.task import Baseline, Exhibit, Metric

# Numbers of one piece of outputs, at most.
_MOST_OUTPUTS = 2**22
# Beyond that, counting would take longer than it is worth.
_MOST_COUNTED = 2**21
_ORDERS = {1: "unigram", 2: "bigram", 3: "trigram", 5: "5-gram"}
# Of a run of words written as one number.
_MOST_BITS = 62
_UNITS = {"char": "character", "token": "token"}
_PROMPT = 24
_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How well a model tells the next word of the test text, and what it says itself.

    Attributes:
        bits: per word, the mean over the test text.
        metric: what these are called.
        num_told: words that were told.
        prompt: the beginning of the test text, given to the model.
        speech: how the model went on.
    """

    bits: float
    metric: str
    num_told: int
    prompt: str
    speech: str

    @property
    def scores(self) -> Mapping[str, float]:
        """Bits per word, and how many words that leaves to choose from."""
        return {self.metric: self.bits, "perplexity": 2.0 ** min(self.bits, 1000.0)}

    @property
    def sample(self) -> str:
        """What the model says behind the prompt."""
        return f"{self.prompt}|{self.speech}" if self.speech else ""

    @property
    def summary(self) -> str:
        """How much was told."""
        unit = _UNITS[self.metric.removeprefix("bits_per_")]
        return f"over {self.num_told:,} {unit}s".replace(",", " ")

    def exhibits(self) -> Sequence[Exhibit]:
        """Nothing to draw: what the model said is shown with all looks."""
        return ()


class Language:
    """Asks for the next word.

    Args:
        words: to learn from and to test on.
        loss: from [num, context, vocabulary] scores and [num, context] words to the
            mean loss.
        has_own_loss: whether that is another than cross-entropy, so no bits.
        seed: of the job; decides what the model says, together with the step.
    """

    def __init__(
        self, words: Words, loss: LossFunction, *, has_own_loss: bool, seed: int
    ) -> None:
        self._words = words
        self._has_own_loss = has_own_loss
        self._seed = seed
        unit = "char" if words.letters is not None else "token"
        self.metric = Metric(
            name=f"bits_per_{unit}",
            is_more_better=False,
            meaning=f"what it takes to tell the next {_UNITS[unit]}",
        )
        self.loss = loss

    def words_for(self, loss: float) -> dict[str, float]:
        """Say a loss in bits."""
        if self._has_own_loss or not math.isfinite(loss):
            return {}
        return {self.metric.name: loss / math.log(2.0)}

    def evaluate(self, net: nn.Cell, comm: Communicator, *, step: int) -> Reading:
        """Let the model tell each word of the test text, and go on with its beginning.

        Every rank lets it speak: the same steps with the same numbers give the same
        text, and nobody has to send it.

        Collective: every rank, with the same weights.
        """
        words = self._words
        outputs = words.context * words.vocabulary
        nats = judge_all(
            net, words, comm, _nats, piece=min(max(_MOST_OUTPUTS // outputs, 1), PIECE)
        )
        # Summed window by window, whoever looked at it.
        num_told = words.num_test * words.context
        bits = math.fsum(nats.tolist()) / num_told / math.log(2.0)
        prompt, speech = "", ""
        if words.letters is not None:
            given = words.test[: min(_PROMPT, words.context)].astype(np.int64).tolist()
            said = speak(
                net, given, num=_LENGTH, context=words.context,
                keys=(self._seed, "speech", step),
            )  # fmt: skip
            prompt, speech = words.spell(given), words.spell(said)
        return Reading(
            bits=bits,
            metric=self.metric.name,
            num_told=num_told,
            prompt=prompt,
            speech=speech,
        )

    def baselines(self) -> Sequence[Baseline]:
        """Count words, pairs, triples and runs of five, see `ngrams`."""
        words = self._words
        bits_of_a_word = math.log2(max(words.vocabulary, 2))
        order = min(max(_ORDERS), int(_MOST_BITS / bits_of_a_word))
        if len(words.train) > _MOST_COUNTED or words.num_train < 1:
            return []
        told = words.test[: words.num_test * words.context + 1]
        bits = ngram_bits(words.train, told, vocabulary=words.vocabulary, order=order)
        return [
            Baseline(name=name, score=bits[length - 1])
            for length, name in _ORDERS.items()
            if length <= order
        ]


def _nats(
    scores: NDArray[np.generic], answers: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Compute the information of the words of each window: [num]."""
    logits = scores.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(logits, answers[..., np.newaxis].astype(np.int64), -1)
    nats: NDArray[np.float64] = np.log(np.exp(logits).sum(axis=-1)) - picked[..., 0]
    return np.array([math.fsum(window) for window in nats.tolist()])
