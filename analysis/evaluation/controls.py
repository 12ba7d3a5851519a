"""Two rows that keep a leaderboard honest: what one gets without a language model."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from run_folder.results import Labels

CONTROLS = ("control-majority", "control-tfidf")
"""The control models: what most texts report; logistic regression on TF-IDF of words, pairs of words and characters."""

Predict = Callable[[Sequence[str]], NDArray[np.float64]]
"""n texts to probabilities (n, symptoms)."""

_MOST_FEATURES = 200_000
"""Of words, and of characters."""


def fitted_control(name: str, texts: Sequence[str], labels: Labels) -> Predict:
    """A control fitted on these texts alone.

    Of a multilabel task, it is a classifier for each symptom. Classes weigh alike, or the rare ones would not be said.

    Raises:
        ValueError: a class has no text.
    """
    if labels.ndim == 1:
        classifier = _fitted(name, texts, labels)
        if len(classifier.classes_) != labels.max() + 1:
            raise ValueError("a class has no text")
        return lambda others: np.asarray(classifier.predict_proba(others))
    of_symptoms = [_fitted(name, texts, column >= 0.5) for column in labels.T]
    return lambda others: np.stack([_probability_of_yes(fitted, others) for fitted in of_symptoms], axis=1)


def _fitted(name: str, texts: Sequence[str], labels: NDArray[np.generic]) -> ClassifierMixin:
    if name == "control-majority" or (labels == labels[0]).all():
        return DummyClassifier(strategy="prior").fit(texts, labels)
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\S+", max_features=_MOST_FEATURES
    )
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2, max_features=_MOST_FEATURES
    )
    solver = "liblinear" if labels.dtype == np.bool_ else "lbfgs"
    regression = LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced", solver=solver, random_state=0)
    return make_pipeline(make_union(words, characters), regression).fit(texts, labels)


def _probability_of_yes(classifier: ClassifierMixin, texts: Sequence[str]) -> NDArray[np.float64]:
    """(n,); of a symptom that no training text reports, or every one does, as sure as that is."""
    probabilities, classes = np.asarray(classifier.predict_proba(texts)), list(classifier.classes_)
    return probabilities[:, classes.index(True)] if True in classes else np.zeros(len(texts))
