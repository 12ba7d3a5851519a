"""Learning curves made up from the configuration alone, for searches in virtual time that train nothing."""

import json
import random
from collections.abc import Mapping
from typing import Any

from benchmarks.simulated_cluster import RecordedCurves, deployed_result, epoch_result
from run_folder.trials import TrialRecord


class InventedCurves(RecordedCurves):
    """A different curve for every configuration: some learn fast, some slowly, some never.

    Args:
        epochs: of a curve.
        seconds: least and most that an epoch takes.
    """

    def __init__(self, epochs: int, seconds: tuple[float, float] = (0.5, 2.0)) -> None:
        super().__init__(())
        self._epochs, self._seconds = epochs, seconds

    def nearest(self, strategy: str, hyperparameters: Mapping[str, Any]) -> TrialRecord:
        chance = random.Random(json.dumps([strategy, *sorted(hyperparameters.items())]))
        end, speed = chance.random(), chance.random()
        seconds = chance.uniform(*self._seconds)
        scores = [end * (1 - speed**epoch) for epoch in range(1, self._epochs + 1)]
        epochs = tuple(epoch_result(number, f1, seconds) for number, f1 in enumerate(scores, 1))
        final = deployed_result(scores[-1], chance.randrange(1, 1000))
        return TrialRecord("", strategy, 0, 0, hyperparameters, {}, epochs=epochs, final=final, state="finished")
