"""The task of a job, from its data and its [loss] table."""

from parallel_params.train.config.job import Job
from parallel_params.train.config.loss import Loss, SmoothedLoss, TaskLoss
from parallel_params.train.data.clusters import Clusters
from parallel_params.train.data.dataset import Dataset
from parallel_params.train.data.samples import Samples
from parallel_params.train.data.words import Words
from parallel_params.train.losses import make_loss
from parallel_params.train.tasks.classification import Classification
from parallel_params.train.tasks.language import Language
from parallel_params.train.tasks.regression import Regression
from parallel_params.train.tasks.task import Task


def _is_plain(loss: Loss) -> bool:
    """Tell cross-entropy as it is, which is information, from any other loss."""
    if isinstance(loss, SmoothedLoss):
        return loss.label_smoothing == 0
    return isinstance(loss, TaskLoss)


def make_task(job: Job, dataset: Dataset) -> Task:
    """Choose what is asked of the model: words, classes or numbers.

    Raises:
        ConfigError: the [loss] table does not go with the data.
    """
    if isinstance(dataset, Words):
        return Language(
            dataset,
            make_loss(job.loss, has_classes=True),
            has_own_loss=not _is_plain(job.loss),
            seed=job.seed,
        )
    if isinstance(dataset, Clusters):
        return Classification(dataset, make_loss(job.loss, has_classes=True))
    assert isinstance(dataset, Samples), "data are words or samples"
    loss = make_loss(job.loss, has_classes=dataset.has_labels)
    if dataset.has_labels:
        return Classification(dataset, loss)
    return Regression(dataset, loss)
