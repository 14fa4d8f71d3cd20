"""Features of which every direction counts alike, for probes; scikit-learn's covariance, and its kind of step.

Imported when a probe is fitted that asks for it, as it takes scikit-learn.
"""

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.covariance import LedoitWolf


class Whitening(TransformerMixin, BaseEstimator):
    """Subtracts the mean and divides by the square root of the covariance, as of fewer pictures than numbers it has to
    be estimated: shrunk towards a sphere, by as much as Ledoit and Wolf (2004) find best.

    In embeddings a few directions vary most, whatever tells classes apart. After this the cosine, and the penalty of a
    logistic regression, see all of them alike (Jégou and Chum 2012 for retrieval).

    Attributes:
        mean_: of the features, " dim".
        matrix_: what features without their mean are multiplied with, "dim dim".
    """

    def fit(self, features: Float[np.ndarray, "image dim"], _labels: object = None) -> "Whitening":
        """Find mean and covariance; labels are not looked at."""
        found = LedoitWolf().fit(features)
        spreads, axes = np.linalg.eigh(found.covariance_)
        self.mean_, self.n_features_in_ = found.location_, features.shape[1]
        self.matrix_ = axes / np.sqrt(np.maximum(spreads, np.finfo(spreads.dtype).tiny))
        return self

    def transform(self, features: Float[np.ndarray, "image dim"]) -> Float[np.ndarray, "image dim"]:
        """The same pictures, whitened."""
        return (features - self.mean_) @ self.matrix_
