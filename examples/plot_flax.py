"""
A Flax NNX network
==================

``nnx.split`` takes a network apart into its structure and its state, and the state is a
nested dict: the spec of an ``OptaxEstimator`` as it is. The network predicts the
progression of diabetes, in single precision.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from sklearn.datasets import load_diabetes
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skoptax
from skoptax import OptaxEstimator
from skoptax.penalties import L2

# %%
# The network
# -----------
# It is written as always with Flax. Layers that keep a state of their own (batch
# normalisation, dropout) have no place in a model, which is a function of parameters
# and rows.


class Network(nnx.Module):
    """Two layers with a normalisation between them."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(10, 32, rngs=rngs)
        self.norm = nnx.LayerNorm(32, rngs=rngs)
        self.output = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, X):
        return self.output(nnx.tanh(self.norm(self.hidden(X))))[:, 0]


def take_apart(seed):
    """Return the structure of a network, and Flax's own start values as a dict."""
    structure, state = nnx.split(Network(nnx.Rngs(seed)))
    return structure, nnx.to_pure_dict(state)


STRUCTURE, start = take_apart(seed=0)
print(jax.tree.map(jnp.shape, start))

# %%
# The model
# ---------
# The structure holds no numbers, so that networks with other start values share the
# programs of this one.


def predict(params, X):
    """Return what the network predicts of each row."""
    return 150.0 + 75.0 * nnx.merge(STRUCTURE, params)(X)


net = OptaxEstimator(
    predict,
    start,
    penalty=L2(0.1, params=["hidden", "output"]),
    optimizer="adamw",
    learning_rate=0.003,
    batch_size=32,
    max_epochs=300,
    early_stopping=True,
    random_state=0,
    dtype="float32",
)
pipeline = make_pipeline(StandardScaler(), net)
X, y = load_diabetes(return_X_y=True)
scores = cross_val_score(pipeline, X, y, cv=5)
print(f"R2 of held-out patients: {scores.mean():.3f}")
print(f"programs: {skoptax.cache_info().programs}")

# %%
# Other start values, and the fitted network
# ------------------------------------------

for seed in (1, 2):
    pipeline.set_params(optaxestimator__params=take_apart(seed)[1])
    scores = cross_val_score(pipeline, X, y, cv=5)
    print(f"from seed {seed}: {scores.mean():.3f}")
print(f"programs: {skoptax.cache_info().programs}")

pipeline.fit(X, y)
network = nnx.merge(STRUCTURE, net.params_)
by_hand = 150.0 + 75.0 * network(jnp.asarray(pipeline[0].transform(X)))
print(type(network).__name__, np.allclose(by_hand, pipeline.predict(X), rtol=1e-4))
print(net.params_["hidden"]["kernel"].dtype)
