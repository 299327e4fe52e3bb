"""Deprecations: one warning, with the version of removal and what to use instead.

The policy is in docs/developers/deprecations.md.
"""

from __future__ import annotations

import warnings


def warn_deprecated(
    what: str, *, since: str, removed_in: str, instead: str, stacklevel: int = 2
) -> None:
    """
    Warn that something is going to be removed.

    Parameters
    ----------
    what : str
        The beginning of the sentence, such as ``"The argument 'steps' of f"``.
    since : str
        The first version that warns.
    removed_in : str
        The version without it. A literal: a test reads it, and fails in that version.
    instead : str
        What to do, as a sentence in the imperative.
    stacklevel : int, default=2
        Whose line the warning points to, as seen from the function that calls this:
        1 is that function's own, 2 that of its caller.

    Examples
    --------
    >>> import warnings
    >>> from skoptax._deprecation import warn_deprecated
    >>> def load(path):
    ...     warn_deprecated("load", since="0.2", removed_in="0.4", instead="Use read.")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     load("x")
    >>> print(caught[0].message)
    load is deprecated since skoptax 0.2 and will be removed in 0.4. Use read.
    """
    warnings.warn(
        f"{what} is deprecated since skoptax {since} and will be removed in "
        f"{removed_in}. {instead}",
        FutureWarning,
        stacklevel=stacklevel + 1,
    )
