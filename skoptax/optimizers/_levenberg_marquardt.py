r"""Levenberg-Marquardt as an Optax transformation, for any loss with curvature.

The objective is a sum of losses of predictions, :math:`F(x) = \sum_i \ell_i(f_i(x))`,
perhaps with terms of the parameters alone. Its gradient is :math:`g = J^T \ell'`; its
curvature is approximated by the generalised Gauss-Newton matrix
:math:`H = J^T \max(\ell'', 0) J`. A step solves

.. math:: (H + \lambda D^2)\, p = -g

with :math:`D` the largest norm so far of each column of :math:`\sqrt{\ell''} J` and
:math:`\lambda` such that :math:`D\, p` is no longer than a radius. Ever shorter steps
are tried until the objective falls. ``docs/theory/levenberg-marquardt.md`` has the
derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from .._tracing import own
from .._typing import PyTree
from .._validation import check_integer, check_real, invalid
from ..exceptions import InvalidParameterError
from ._linearisation import Linearisation, flat_bound, linearise
from ._trial_step import Place, search

OWNER = "levenberg_marquardt"
# What stands for the damping of the step before the first one, for many parameters.
_FIRST_DAMPING = 10.0
# A gradient of more than this share of the last one is hardly smaller.
_HARDLY = 0.3


class LevenbergMarquardtState(NamedTuple):
    """
    What the optimiser remembers, in two arrays.

    For callbacks and loops of one's own that watch the radius. Two arrays, and not
    six: each costs time in every call of a compiled loop.

    Parameters
    ----------
    numbers : array of shape (4,)
        ``radius``, ``damping``, ``accepted`` and ``trials``.
    vectors : array of shape (2, p)
        ``scale`` and ``slope``.

    See Also
    --------
    levenberg_marquardt : The optimiser whose state it is.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skoptax.optimizers import LevenbergMarquardtState
    >>> state = LevenbergMarquardtState.of(2.0, 0.5, True, 3, jnp.ones(2), jnp.zeros(2))
    >>> print(state.radius, state.damping, state.accepted, state.trials)
    2.0 0.5 True 3
    >>> state.scale.shape, state.slope.shape
    ((2,), (2,))
    """

    # A compiled loop's call takes longer with each array.
    numbers: Array
    vectors: Array

    @classmethod
    def of(
        cls,
        radius: Any,
        damping: Any,
        accepted: Any,
        trials: Any,
        scale: Array,
        slope: Array,
    ) -> LevenbergMarquardtState:
        """
        Return the state with these quantities.

        `accepted` and `trials` are stored as numbers of that type, too; the properties
        give them back as a boolean and an integer.

        Parameters
        ----------
        radius, damping, accepted, trials : scalar
            See the properties.
        scale, slope : array of shape (p,)
            See the properties.

        Returns
        -------
        LevenbergMarquardtState
            In the data type of ``scale``.

        See Also
        --------
        levenberg_marquardt : Makes the first state by its ``init``.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import LevenbergMarquardtState
        >>> one = jnp.ones(2)
        >>> state = LevenbergMarquardtState.of(2.0, 0.5, True, 3, one, one)
        >>> state.numbers.tolist(), state.vectors.shape
        ([2.0, 0.5, 1.0, 3.0], (2, 2))
        """
        numbers = [
            jnp.asarray(x).astype(scale.dtype)
            for x in (radius, damping, accepted, trials)
        ]
        return cls(jnp.stack(numbers), jnp.stack([scale, slope]))

    @property
    def radius(self) -> Array:
        """
        How long the next step may be, in units of the scale.

        It shrinks where a step gains less than a quarter of what was predicted, and
        grows to twice the step where it gains three quarters or was not cut short.
        Before the first update it is relative to the vector of parameters.

        See Also
        --------
        LevenbergMarquardtState.damping : What makes a step so short.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import levenberg_marquardt
        >>> state = levenberg_marquardt(initial_radius=0.5).init(jnp.zeros(2))
        >>> float(state.radius)
        0.5
        """
        return self.numbers[0]

    @property
    def damping(self) -> Array:
        """
        Lambda of the last trial, relative to the scaled curvature.

        Next to nothing where the whole step of Gauss and Newton is short enough, as
        near an optimum; large where only short steps along the gradient go down; 0
        before the first update.

        See Also
        --------
        LevenbergMarquardtState.radius : What it follows from.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import levenberg_marquardt
        >>> float(levenberg_marquardt().init(jnp.zeros(2)).damping)
        0.0
        """
        return self.numbers[1]

    @property
    def accepted(self) -> Array:
        """
        Whether the last update found a step; if not, it is zero.

        False says that no trial was better, of ``max_trials`` at most, each shorter
        than the one before: there is nothing lower nearby, as far as rounding lets see.

        See Also
        --------
        LevenbergMarquardtState.trials : How many were tried.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import LevenbergMarquardtState
        >>> one = jnp.ones(2)
        >>> state = LevenbergMarquardtState.of(0.5, 2.0, False, 30, one, one)
        >>> bool(state.accepted)
        False
        """
        return self.numbers[2] > 0

    @property
    def trials(self) -> Array:
        """
        How many steps were tried in all.

        Since the start, those that failed among them. Each costs one evaluation of the
        objective, or more with ``geodesic=True``.

        See Also
        --------
        LevenbergMarquardtState.accepted : Whether the last of them was better.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import levenberg_marquardt
        >>> int(levenberg_marquardt().init(jnp.zeros(2)).trials)
        0
        """
        return self.numbers[3].astype(jnp.int32)

    @property
    def scale(self) -> Array:
        """
        The largest norm so far of each column of the weighted Jacobian.

        Steps are measured in it, so that the units of the parameters make no
        difference. It never shrinks, and is 0 before the first update.

        See Also
        --------
        LevenbergMarquardtState.slope : A gradient in these units.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import levenberg_marquardt
        >>> levenberg_marquardt().init(jnp.ones(2)).scale.tolist()
        [0.0, 0.0]
        """
        return self.vectors[0]

    @property
    def slope(self) -> Array:
        """
        The scaled gradient that the last step started from, or zero.

        It is zero unless the objective could not judge that step.

        See Also
        --------
        LevenbergMarquardtState.scale : The units that it is in.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import levenberg_marquardt
        >>> levenberg_marquardt().init(jnp.ones(2)).slope.tolist()
        [0.0, 0.0]
        """
        return self.vectors[1]


def levenberg_marquardt(
    initial_radius: float = 0.3, max_trials: int = 30, geodesic: bool = False
) -> optax.GradientTransformationExtraArgs:
    r"""
    Return a Levenberg-Marquardt optimiser.

    For objectives that are a sum of losses of predictions, and few parameters: each
    update takes the whole Jacobian of the predictions, and few updates are needed. How
    it makes a step is in :doc:`/theory/levenberg-marquardt`. Estimators call it
    ``optimizer="lm"``; for :class:`skoptax.OptaxOptimizer` the loss has to be a
    :class:`skoptax.losses.SampleLoss`.

    Parameters
    ----------
    initial_radius : float, default=0.3
        How long the first step may be, positive: so many times the vector of
        parameters, in units of what each column of the Jacobian is long. A larger one
        takes bolder first steps.
    max_trials : int, default=30
        How many steps an update tries, each shorter than the one before, 1 or more.
    geodesic : bool, default=False
        Whether steps bend with the model: a second derivative of the predictions along
        the step is computed for each trial. In narrow, curved valleys that can save
        most of the steps; elsewhere a step only takes longer.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its ``update(grad, state, params, *, predict_fn, sample_loss, ...)`` takes

        - ``grad``: the gradient of the whole objective at ``params``;
        - ``predict_fn(params)``: the predictions, an array;
        - ``sample_loss(predictions)``: the losses, which add up to the objective's part
          that depends on predictions, weights and all. Each belongs to one prediction;
        - ``value_fn(params)``: the whole objective; by default the sum of the losses;
        - ``value``: the objective at ``params``, if it is known;
        - ``lower``, ``upper``: bounds of the structure of ``params``, each a number or
          an array of its parameter's shape, infinite where there is none;
        - ``curvature``: the Hessian, of shape (p, p) in the order of
          `jax.flatten_util.ravel_pytree`, of what else the objective has: penalties
          and priors;
        - ``linearisation``: what the package's own loop has computed already.

        The update is a step to a lower objective, or zero where ``state.accepted`` is
        false: no trial was better.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable, or, from ``update``, if ``params``,
        ``predict_fn`` or ``sample_loss`` is missing.

    See Also
    --------
    optax.lbfgs : For scalar losses, and for many parameters.
    skoptax.losses.SampleLoss : A loss that lets it see the predictions.

    Notes
    -----
    A loss without curvature, such as the absolute error, leaves nothing but steps
    along the gradient.

    Where a step is so small that the objective cannot tell it from rounding error, it
    is taken as long as nothing gets worse by more than that: the gradient has more
    digits than the objective.

    References
    ----------
    .. [1] K. Levenberg (1944). A method for the solution of certain non-linear
       problems in least squares. Quarterly of Applied Mathematics 2, 164-168.
    .. [2] D. W. Marquardt (1963). An algorithm for least-squares estimation of
       nonlinear parameters. SIAM Journal on Applied Mathematics 11, 431-441.
    .. [3] J. J. Moré (1978). The Levenberg-Marquardt algorithm: implementation and
       theory. Numerical Analysis, Lecture Notes in Mathematics 630, 105-116.
    .. [4] N. N. Schraudolph (2002). Fast curvature matrix-vector products for
       second-order gradient descent. Neural Computation 14, 1723-1738.
    .. [5] M. K. Transtrum and J. P. Sethna (2012). Improvements to the
       Levenberg-Marquardt algorithm for nonlinear least-squares minimization.
       arXiv:1201.5885.
    .. [6] K. Madsen, H. B. Nielsen and O. Tingleff (2004). Methods for non-linear
       least squares problems, second edition. Technical University of Denmark.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from skoptax.optimizers import levenberg_marquardt
    >>> t = jnp.linspace(0.0, 3.0, 20)
    >>> y = 2.5 * jnp.exp(-1.3 * t)
    >>> def predict(params):
    ...     return params["amplitude"] * jnp.exp(-params["rate"] * t)
    >>> def squares(predictions):
    ...     return 0.5 * (predictions - y) ** 2
    >>> def objective(params):
    ...     return jnp.sum(squares(predict(params)))
    >>> optimizer = levenberg_marquardt()
    >>> params = {"amplitude": jnp.array(1.0), "rate": jnp.array(0.5)}
    >>> state = optimizer.init(params)
    >>> @jax.jit
    ... def step(params, state):
    ...     updates, state = optimizer.update(
    ...         jax.grad(objective)(params),
    ...         state,
    ...         params,
    ...         predict_fn=predict,
    ...         sample_loss=squares,
    ...     )
    ...     return optax.apply_updates(params, updates), state
    >>> for _ in range(8):
    ...     params, state = step(params, state)
    >>> print(f"{params['amplitude']:.4f} {params['rate']:.4f}")
    2.5000 1.3000
    """
    # The numbers of a declarative spec are traced; they were checked before.
    if not isinstance(initial_radius, jax.core.Tracer):
        check_real("initial_radius", OWNER, initial_radius, 0.0, above=True)
    if not isinstance(max_trials, jax.core.Tracer):
        check_integer("max_trials", OWNER, max_trials, 1)
    if not isinstance(geodesic, (bool, np.bool_)):
        raise invalid("geodesic", OWNER, "a bool", geodesic)

    def init(params: PyTree) -> LevenbergMarquardtState:
        flat, _ = ravel_pytree(params)
        zero = jnp.zeros_like(flat)
        return LevenbergMarquardtState.of(initial_radius, 0.0, True, 0, zero, zero)

    def update(
        updates: PyTree,
        state: LevenbergMarquardtState,
        params: PyTree | None = None,
        *,
        predict_fn: Callable[[PyTree], Any] | None = None,
        sample_loss: Callable[[Any], Any] | None = None,
        value_fn: Callable[[PyTree], Any] | None = None,
        value: Any = None,
        lower: PyTree | None = None,
        upper: PyTree | None = None,
        curvature: Any = None,
        linearisation: Linearisation | None = None,
        **others: Any,
    ) -> tuple[PyTree, LevenbergMarquardtState]:
        del others  # what other optimisers of a chain need
        if params is None or predict_fn is None or sample_loss is None:
            raise InvalidParameterError(
                f"The update of {OWNER} needs params, predict_fn and sample_loss: it "
                "looks at each prediction, not only at their loss. For "
                "skoptax.OptaxOptimizer, make the loss a skoptax.losses.SampleLoss; in "
                "a loop of your own, pass predict_fn=(params -> predictions) and "
                "sample_loss=(predictions -> losses)."
            )
        point, unravel = ravel_pytree(params)
        gradient, _ = ravel_pytree(updates)

        def predict(x: Array) -> Array:
            return jnp.asarray(predict_fn(unravel(x)))

        def summed(predictions: Array) -> Array:
            return jnp.sum(sample_loss(predictions))

        def objective(x: Array) -> Array:
            value = summed(predict(x)) if value_fn is None else value_fn(unravel(x))
            return jnp.asarray(value, point.dtype)

        if linearisation is None:
            rest = None if curvature is None else (jnp.zeros_like(point), curvature)
            _, linearisation = linearise(predict, summed, point, others=rest)
        # It never shrinks.
        scale = jnp.maximum(state.scale, jnp.linalg.norm(linearisation.root, axis=0))
        place = Place(
            point,
            objective(point) if value is None else jnp.asarray(value, point.dtype),
            jnp.where(scale > 0, scale, 1),
            flat_bound(lower, params),
            flat_bound(upper, params),
        )
        slope = gradient / place.unit
        radius = _after_overshoot(state, slope)
        # No step is known to be good yet: none that is far longer than the parameters.
        # (Next to 0 they say nothing of how far the answer is.)
        size, steep = jnp.linalg.norm(place.unit * point), jnp.linalg.norm(slope)
        size = jnp.where(size > jnp.finfo(size.dtype).eps * steep, size, steep)
        size = jnp.where(size > 0, size, 1)
        # What was not finite, or had no gradient at all, has left no radius.
        is_first = (state.trials == 0) | ~(radius > 0)
        radius = jnp.where(is_first, initial_radius * size, radius)
        end = search(
            objective,
            place,
            gradient,
            linearisation,
            radius,
            jnp.where(
                is_first | ~jnp.isfinite(state.damping), _FIRST_DAMPING, state.damping
            ),
            max_trials,
            _bend(predict, summed, point) if geodesic else None,
        )
        new_state = LevenbergMarquardtState.of(
            radius=end.radius,
            damping=end.damping,
            accepted=end.accepted,
            trials=state.trials + end.tries,
            scale=scale,
            slope=jnp.where(end.accepted & end.in_noise, slope, 0),
        )
        return unravel(end.point - point), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def is_levenberg_marquardt(transformation: Any) -> bool:
    """
    Tell whether a finished transformation is one of these, not a chain of some.

    Parameters
    ----------
    transformation : optax.GradientTransformation
        Any.

    Returns
    -------
    bool
        By the function that it was made in.
    """
    init = getattr(transformation, "init", None)
    return (
        getattr(init, "__module__", None) == __name__
        and getattr(init, "__code__", None) in levenberg_marquardt.__code__.co_consts
    )


def find_state(state: PyTree) -> LevenbergMarquardtState | None:
    """
    Return the state of the Levenberg-Marquardt part of a transformation, if any.

    Parameters
    ----------
    state : pytree
        Of any transformation.

    Returns
    -------
    LevenbergMarquardtState or None
        The first one in it.
    """

    def is_one(part: Any) -> bool:
        return isinstance(part, LevenbergMarquardtState)

    return next(filter(is_one, jax.tree.leaves(state, is_leaf=is_one)), None)


@own
def _after_overshoot(state: LevenbergMarquardtState, slope: Array) -> Array:
    """
    Return the radius, smaller if the last step went too far.

    Where the objective's fall is lost in rounding error only the gradient can tell:
    it has turned round, and is hardly smaller. That is so where the curvature that
    Gauss and Newton leave out is as large as what they keep.
    """
    turned = (slope @ state.slope) < 0
    hardly = (slope @ slope) > _HARDLY**2 * (state.slope @ state.slope)
    # The radius is twice that step: half of it is a step to the middle.
    return jnp.where(turned & hardly, state.radius / 4, state.radius)


def _bend(
    predict: Callable[[Array], Array], summed: Callable[[Array], Array], point: Array
) -> Callable[[Array], Array]:
    """
    Return the pull of the predictions' second derivative along a direction.

    It is ``J.T @ (curvature of the losses * second derivative)``.
    """

    def along(direction: Array) -> Array:
        def slope(x: Array) -> tuple[Array, Array]:
            return jax.jvp(predict, (x,), (direction,))

        (predictions, _), (_, second) = jax.jvp(slope, (point,), (direction,))
        _, pull = jax.jvp(jax.grad(summed), (predictions,), (second,))
        # Forward mode, as for the Jacobian: a model may have loops.
        return jax.jacfwd(lambda x: jnp.vdot(pull, predict(x)))(point)

    return along
