"""Models of some NIST reference problems, as JAX functions.

Each takes its inputs first and its parameters b1, b2, ... after them.
"""

import jax.numpy as jnp


def chwirut1(distance, b1, b2, b3):
    """Ultrasonic response against metal distance."""
    return jnp.exp(-b1 * distance) / (b2 + b3 * distance)


def boxbod(days, b1, b2):
    """Biochemical oxygen demand against incubation time."""
    return b1 * (1.0 - jnp.exp(-b2 * days))


def thurber(log_density, b1, b2, b3, b4, b5, b6, b7):
    """Electron mobility in a semiconductor against the logarithm of the density."""
    d = log_density
    return (b1 + b2 * d + b3 * d**2 + b4 * d**3) / (
        1.0 + b5 * d + b6 * d**2 + b7 * d**3
    )
