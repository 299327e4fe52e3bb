"""
An Equinox network
==================

A network of Equinox is a pytree of arrays and of things that are none, such as
activation functions. The arrays are the parameters, by the names of their places; the
rest stays in the model. The network predicts the progression of diabetes, and a search
over its learning rate and its start values compiles each program once.
"""

import equinox as eqx
import jax
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skoptax
from skoptax import OptaxEstimator

# %%
# The network
# -----------
# ``eqx.filter_eval_shape`` makes it without any numbers: what the model refers to is
# its structure only. That matters, since a compiled program belongs to all that its
# model refers to: numbers in there would be part of it, and another seed would compile
# anew.


def make_network(seed):
    """Make a network with Equinox's own start values."""
    key = jax.random.key(seed)
    return eqx.nn.MLP(in_size=10, out_size="scalar", width_size=16, depth=2, key=key)


def is_array(leaf):
    """Tell arrays, and what stands for one, from the rest."""
    return eqx.is_inexact_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


ARRAYS, REST = eqx.partition(eqx.filter_eval_shape(make_network, 0), is_array)

# %%
# From network to spec, and back
# ------------------------------
# The parameters of an ``OptaxEstimator`` have names; in a pytree the path of a leaf is
# one.


def name_of(path):
    """Return the name of a leaf, such as layers.0.weight."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def to_params(network):
    """Return the arrays of a network by name."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(network, is_array))
    return {name_of(path): np.asarray(leaf) for path, leaf in leaves}


def to_network(params):
    """Return the network with these arrays."""
    arrays = jax.tree_util.tree_map_with_path(
        lambda path, _: params[name_of(path)], ARRAYS
    )
    return eqx.combine(arrays, REST)


def predict(params, X):
    """Return what the network predicts of each row: the model."""
    return 150.0 + 75.0 * jax.vmap(to_network(params))(X)


start = to_params(make_network(seed=0))
for name, array in start.items():
    print(f"{name:<16} {array.shape}")

# %%
# Fit and search
# --------------
# Start values are an argument like any other, and so are the fields of a single array:
# ``params__layers.0.weight__free`` set to ``False`` would leave the first layer as it
# is. Folds have fewer rows than the whole: their programs are made for another length,
# and all folds share them.

net = OptaxEstimator(
    predict,
    start,
    optimizer="adam",
    learning_rate=0.003,
    batch_size=32,
    max_epochs=300,
    early_stopping=True,
    random_state=0,
)
X, y = load_diabetes(return_X_y=True)
X, X_new, y, y_new = train_test_split(X, y, random_state=0)
pipeline = make_pipeline(StandardScaler(), net).fit(X, y)
print(f"R2 of new patients: {pipeline.score(X_new, y_new):.3f}")
print(f"programs after one fit: {skoptax.cache_info().programs}")

search = GridSearchCV(
    pipeline,
    {
        "optaxestimator__learning_rate": [0.001, 0.003, 0.01],
        "optaxestimator__params": [to_params(make_network(seed)) for seed in range(4)],
    },
    cv=5,
).fit(X, y)
n_fits = 5 * len(search.cv_results_["params"]) + 1
print(f"R2 of new patients, best of a search: {search.score(X_new, y_new):.3f}")
print(f"programs after {n_fits} more fits: {skoptax.cache_info().programs}")

# %%
# The fitted network is one of Equinox again:

scaler, fitted = search.best_estimator_
network = to_network(fitted.params_)
one = 150.0 + 75.0 * network(scaler.transform(X_new)[0])
print(type(network).__name__, bool(np.isclose(one, search.predict(X_new)[0])))
