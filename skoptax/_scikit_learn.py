"""scikit-learn's classes that small objects inherit from, as type checkers see them.

scikit-learn ships no types: a class of ours that inherits from its classes would be
unknown to a type checker, which then accepts every misspelt attribute of a callback or
a loss. Here checkers are told what these bases offer; at run time they are
scikit-learn's own.

The estimators inherit from scikit-learn's own classes: stubs of scikit-learn, which
some editors bring along, ask for a `BaseEstimator` of theirs where an estimator is
given to a search or a pipeline, and a class that is declared here would be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    class BaseEstimator:
        """Named arguments that can be read, set and copied."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the constructor's arguments by name."""

        def set_params(self, **params: Any) -> Self:
            """Set arguments by name."""

    class ConvergenceWarning(UserWarning):
        """A fit has not converged."""

    class NotFittedError(ValueError, AttributeError):
        """An estimator is used before it is fitted."""
else:
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import ConvergenceWarning, NotFittedError

__all__ = ["BaseEstimator", "ConvergenceWarning", "NotFittedError"]
