"""What a search is to do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchPlan:
    """The trials that a search is to run, and the models that it keeps.

    Attributes:
        trials: budget of trials, per strategy.
        seed: of suggestions and training.
        keep: finished trials per strategy whose models stay on the storage, best first.
        retry_failed: run failed trials again, each as a new trial of the same configuration and seed.
        train_to: train the best finished trial of each strategy for longer, to this many epochs, as a new trial.
        cycles: see ``cycles.Cycles``; 0: the best baseline of the search is the teacher, and is trained no further.
        patience: of the trials of the search, see ``trainables.base.TrainSettings``. Cycles have none, so that the
            reference was trained for as long as any trial.
        seeds: train the best configuration of each strategy with this many seeds, once the search is over; a
            compressed model's start from the baseline's of the same seed. The trial that was found counts as one.
        only_seeds: do that alone, with the search as it stands.
    """

    trials: int
    seed: int = 0
    keep: int = 3
    retry_failed: bool = False
    train_to: int | None = None
    cycles: int = 0
    patience: int = 0
    seeds: int = 1
    only_seeds: bool = False
