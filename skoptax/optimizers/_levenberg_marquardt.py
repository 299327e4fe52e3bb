r"""Levenberg-Marquardt as an Optax transformation, for any loss with curvature.

The objective is a sum of losses of predictions, :math:`F(x) = \sum_i \ell_i(f_i(x))`,
perhaps with terms of the parameters alone. Its gradient is :math:`g = J^T \ell'`; its
curvature is approximated by the generalised Gauss-Newton matrix
:math:`H = J^T \max(\ell'', 0) J`. A step solves

.. math:: (H + \lambda D^2)\, p = -g

with :math:`D` the largest norm so far of each column of :math:`\sqrt{\ell''} J`, and is
tried until the objective falls. ``docs/theory/levenberg-marquardt.md`` has the
derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular

from .._typing import PyTree
from .._validation import check_integer, check_real
from ..exceptions import InvalidParameterError

OWNER = "levenberg_marquardt"
# A step that gains less than this share of what was predicted is not taken.
_ENOUGH = 1e-4
# So many units in the last place of what the objective is summed from may be noise.
_ULPS = 8


class LevenbergMarquardtState(NamedTuple):
    """What the optimiser remembers.

    Parameters
    ----------
    damping : scalar
        Lambda, relative to the scaled curvature; adapted by the gain ratio.
    growth : scalar
        What the damping is multiplied by after a trial that fails.
    scale : array of shape (p,)
        The largest norm so far of each column of the weighted Jacobian.
    accepted : bool
        Whether the last update found a step; if not, it is zero.
    trials : int
        How many steps were tried in all.
    """

    damping: Array
    growth: Array
    scale: Array
    accepted: Array
    trials: Array


class _Local(NamedTuple):
    """The quadratic model at a point, in units of the scale."""

    root: Array  # R of a QR factorisation: the curvature is R.T @ R
    gradient: Array
    noise: Array  # what the objective may change by rounding alone


class _Trial(NamedTuple):
    damping: Array
    growth: Array
    point: Array
    accepted: Array
    tries: Array


def levenberg_marquardt(
    initial_damping: float = 0.1, max_trials: int = 30
) -> optax.GradientTransformationExtraArgs:
    r"""Return a Levenberg-Marquardt optimiser.

    Parameters
    ----------
    initial_damping : float, default=0.1
        The first damping, relative to the scaled curvature, positive. A smaller one
        takes bolder first steps.
    max_trials : int, default=30
        How many steps an update tries, each shorter than the one before, 1 or more.

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
          and priors.

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
    .. [5] K. Madsen, H. B. Nielsen and O. Tingleff (2004). Methods for non-linear
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
    >>> for _ in range(8):
    ...     updates, state = optimizer.update(
    ...         jax.grad(objective)(params),
    ...         state,
    ...         params,
    ...         predict_fn=predict,
    ...         sample_loss=squares,
    ...     )
    ...     params = optax.apply_updates(params, updates)
    >>> print(f"{params['amplitude']:.4f} {params['rate']:.4f}")
    2.5000 1.3000
    """
    initial = check_real("initial_damping", OWNER, initial_damping, 0.0, above=True)
    most = check_integer("max_trials", OWNER, max_trials, 1)

    def init(params: PyTree) -> LevenbergMarquardtState:
        flat, _ = ravel_pytree(params)
        return LevenbergMarquardtState(
            damping=jnp.asarray(initial, flat.dtype),
            growth=jnp.asarray(2.0, flat.dtype),
            scale=jnp.zeros_like(flat),
            accepted=jnp.asarray(True),
            trials=jnp.asarray(0, jnp.int32),
        )

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
        losses = sample_loss

        def predict(x: Array) -> Array:
            return jnp.ravel(jnp.asarray(predict_fn(unravel(x))))

        shape = jax.eval_shape(predict_fn, params).shape

        def summed(predictions: Array) -> Array:
            return jnp.sum(losses(predictions.reshape(shape)))

        def objective(x: Array) -> Array:
            return summed(predict(x)) if value_fn is None else value_fn(unravel(x))

        low, high = (_flat_bound(bound, params) for bound in (lower, upper))
        now = jnp.asarray(objective(point) if value is None else value, point.dtype)
        weighted, noise = _weighted_jacobian(predict, summed, point)
        scale = jnp.maximum(state.scale, _column_norms(weighted, curvature))
        unit = jnp.where(scale > 0, scale, 1)
        held = _held(point, gradient, low, high)
        local = _local_model(
            jnp.where(held, 0, weighted / unit),
            None if curvature is None else curvature / unit / unit[:, None],
            jnp.where(held, 0, gradient / unit),
            held,
            noise + jnp.abs(now),
        )

        def search(trial: _Trial) -> _Trial:
            step = _solve(local, trial.damping)
            # What the step would push out of the box is held, too.
            held = _held(point, -step, low, high)
            step = _solve(_without(local, held), trial.damping) / unit
            new = _clip(point + step, low, high)
            inside = jnp.all(new == point + step)
            moved = (new - point) * unit
            return _judge(local, trial, new, moved, inside, now - objective(new))

        start = _Trial(
            state.damping,
            state.growth,
            point,
            jnp.asarray(False),
            jnp.asarray(0, jnp.int32),
        )
        end = jax.lax.while_loop(
            lambda trial: ~trial.accepted & (trial.tries < most), search, start
        )
        eps = jnp.finfo(point.dtype).eps
        new_state = LevenbergMarquardtState(
            damping=jnp.clip(end.damping, eps**2, 1 / eps),
            growth=jnp.where(end.accepted, end.growth, 2.0),
            scale=scale,
            accepted=end.accepted,
            trials=state.trials + end.tries,
        )
        return unravel(end.point - point), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def needs_predictions(state: PyTree) -> bool:
    """Tell by its state whether a transformation, or a part of it, is one of these."""

    def is_one(part: Any) -> bool:
        return isinstance(part, LevenbergMarquardtState)

    return any(map(is_one, jax.tree.leaves(state, is_leaf=is_one)))


def _weighted_jacobian(
    predict: Callable[[Array], Array], summed: Callable[[Array], Array], point: Array
) -> tuple[Array, Array]:
    """Return the Jacobian times the root of the curvature, and the rounding error."""
    n, p = jax.eval_shape(predict, point).size, point.size
    if p <= n:

        def push(direction: Array) -> tuple[Array, Array]:
            return jax.jvp(predict, (point,), (direction,))

        basis = jnp.eye(p, dtype=point.dtype)
        predictions, jacobian = jax.vmap(push, out_axes=(None, 1))(basis)
    else:
        predictions, pull = jax.vjp(predict, point)
        (jacobian,) = jax.vmap(pull)(jnp.eye(n, dtype=predictions.dtype))
    # The loss of a prediction depends on no other one: its Hessian is diagonal.
    slope, bend = jax.jvp(
        jax.grad(summed), (predictions,), (jnp.ones_like(predictions),)
    )
    # A prediction is rounded, which changes its loss by the slope.
    noise = jnp.sum(jnp.abs(slope * predictions))
    return jnp.sqrt(jnp.maximum(bend, 0))[:, None] * jacobian, noise


def _column_norms(weighted: Array, curvature: Any) -> Array:
    squares = jnp.sum(weighted**2, axis=0)
    if curvature is not None:
        squares = squares + jnp.maximum(jnp.diagonal(curvature), 0)
    return jnp.sqrt(squares)


def _flat_bound(bound: PyTree | None, params: PyTree) -> Array | None:
    if bound is None:
        return None
    full = jax.tree.map(lambda b, x: jnp.broadcast_to(b, jnp.shape(x)), bound, params)
    return ravel_pytree(full)[0]


def _held(point: Array, gradient: Array, low: Any, high: Any) -> Array:
    """Tell which parameters are on a bound that the descent would cross."""
    held = jnp.zeros(point.shape, bool)
    if low is not None:
        held |= (point <= low) & (gradient > 0)
    if high is not None:
        held |= (point >= high) & (gradient < 0)
    return held


def _clip(point: Array, low: Any, high: Any) -> Array:
    if low is not None:
        point = jnp.maximum(point, low)
    return point if high is None else jnp.minimum(point, high)


def _local_model(
    jacobian: Array, curvature: Any, gradient: Array, held: Array, size: Array
) -> _Local:
    """Factorise the curvature, by QR: its square would lose half of the digits."""
    rows = [jacobian]
    if curvature is not None:
        free = jnp.where(held | held[:, None], 0, curvature)
        # Of what is not positive, the nearest that is.
        values, vectors = jnp.linalg.eigh(free)
        rows.append(jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T)
    root = jnp.linalg.qr(jnp.concatenate(rows), mode="r")
    return _Local(root, gradient, _ULPS * jnp.finfo(gradient.dtype).eps * size)


def _solve(local: _Local, damping: Array) -> Array:
    """Return the step for one damping, in units of the scale."""
    root, gradient, _ = local
    edge = jnp.sqrt(damping) * jnp.eye(gradient.size, dtype=gradient.dtype)
    triangle = jnp.linalg.qr(jnp.concatenate([root, edge]), mode="r")

    def inverse(right: Array) -> Array:
        return solve_triangular(triangle, solve_triangular(triangle, right, trans=1))

    step = -inverse(gradient)
    # One refinement makes up for solving through the square of the factor.
    residual = -gradient - root.T @ (root @ step) - damping * step
    return step + inverse(residual)


def _without(local: _Local, held: Array) -> _Local:
    """Return the model in the parameters that are not held."""
    return local._replace(
        root=jnp.where(held, 0, local.root), gradient=jnp.where(held, 0, local.gradient)
    )


def _judge(
    local: _Local, trial: _Trial, new: Array, step: Array, inside: Array, gain: Array
) -> _Trial:
    """Accept a step or not, and adapt the damping by the gain ratio."""
    bent = local.root @ step
    predicted = -(local.gradient @ step + 0.5 * (bent @ bent))
    usable = jnp.isfinite(gain) & jnp.all(jnp.isfinite(new))
    ratio = jnp.where(usable, gain / predicted, -1.0)
    # Below rounding error the gain says nothing; the gradient still does.
    # (What a clipped step is predicted to lose is no rounding error.)
    in_noise = (predicted <= local.noise) & (inside | (predicted > 0))
    in_noise &= gain >= -local.noise
    accepted = usable & (((ratio > _ENOUGH) & (gain > 0)) | in_noise)
    # Nielsen's rule: continuous, and patient after failures.
    factor = jnp.where(in_noise, 0.1, jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3))
    return _Trial(
        damping=trial.damping * jnp.where(accepted, factor, trial.growth),
        growth=jnp.where(accepted, 2.0, 2 * trial.growth),
        point=jnp.where(accepted, new, trial.point),
        accepted=accepted,
        tries=trial.tries + 1,
    )
