"""Batches of training patches."""

from torch.utils.data import DataLoader, Subset

from training.data.library import Skies
from training.data.patches import Patches

#: Of the paper's validation patches there is one for every so many training patches of an epoch.
VALIDATION_FRACTION = 9


def batches(configuration, split, sources, first=0, count=None, workers=0, skies=None):
    """Return the batches of a split, in an order that depends on the configuration alone.

    Parameters
    ----------
    configuration : `training.configuration.Configuration`
    split : {"train", "validation"}
    sources : dict
        Arguments of `training.data.library.Skies`: ``data``, ``hits``, ``frames``.
    first : int
        Steps to leave out: those done before.
    count : int, optional
        Batches in all; the configuration's steps by default.
    workers : int
        Processes that make patches; 0 makes them in this one.
    skies : optional
        As for `training.data.patches.Patches`, in place of those of the split and the sources.

    Returns
    -------
    `torch.utils.data.DataLoader`
        Of (input, truth, weight), each (batch, 1, patch, patch) float32.
    """
    count = configuration.steps if count is None else count
    patches = Patches(
        Skies(split, hard=configuration.hard, narrow=configuration.narrow, **sources) if skies is None else skies,
        configuration.patch,
        count * configuration.batch,
        configuration.seed,
        configuration.scaling,
        configuration.contamination,
    )
    chosen = Subset(patches, range(first * configuration.batch, len(patches)))
    return DataLoader(chosen, configuration.batch, num_workers=workers, prefetch_factor=4 if workers else None)


def validation_batches(configuration, sources):
    """Return the batches of which the validation loss is taken after each epoch.

    Parameters
    ----------
    configuration, sources
        As for `batches`.

    Returns
    -------
    `torch.utils.data.DataLoader`
    """
    count = max(1, configuration.steps // configuration.epochs // VALIDATION_FRACTION)
    return batches(configuration, "validation", sources, count=count)
