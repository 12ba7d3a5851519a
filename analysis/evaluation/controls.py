"""Two rows that keep a leaderboard honest: what one gets without a language model."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

CONTROLS = ("control-majority", "control-tfidf")
"""The control models: the most frequent symptom for every text; logistic regression on TF-IDF of words and pairs."""


Predict = Callable[[Sequence[str]], NDArray[np.float64]]
"""n texts to probabilities (n, symptoms)."""


def _classifier(name: str, *, balanced: bool) -> ClassifierMixin:
    if name == "control-majority":
        return DummyClassifier(strategy="prior")
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\S+")
    weights = "balanced" if balanced else None
    return make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000, class_weight=weights))


def control_probabilities(
    name: str,
    symptoms: Sequence[str],
    train: pd.DataFrame,
    others: Sequence[pd.DataFrame],
    *,
    balanced: bool,
) -> list[NDArray[np.float64]]:
    """Probabilities (n, symptoms) for each of ``others`` by a control fitted on ``train`` alone."""
    predict = fitted_control(name, symptoms, train, balanced=balanced)
    return [predict(list(frame["text"])) for frame in others]


def fitted_control(name: str, symptoms: Sequence[str], train: pd.DataFrame, *, balanced: bool) -> Predict:
    """A control fitted on ``train`` alone."""
    classifier = _classifier(name, balanced=balanced).fit(train["text"], train["symptom"])
    order = [list(classifier.classes_).index(symptom) for symptom in symptoms]
    return lambda texts: np.asarray(classifier.predict_proba(texts))[:, order]
