"""Linear heads that start at the text, letter by letter, in NumPy float64 with explicit loops."""

from __future__ import annotations

import math

import numpy as np

from reference.naive import softmax, unit


def cosine_head(f, u, s):
    return np.array([[s * float(np.dot(q, w)) / math.sqrt(float(np.dot(w, w))) for w in u] for q in f])


def row_weights(y, c, images=None, *, balanced=True):
    """Weight of each row: classes with images alike, images of a class alike, views of an image alike."""
    images = list(range(len(y))) if images is None else list(images)
    weights = []
    for i, label in enumerate(y):
        views = images.count(images[i])
        shots = len({g for g, other in zip(images, y, strict=True) if other == label})
        weights.append(1 / (views * shots) if balanced else 1 / views)
    return np.array(weights) / sum(weights)


def cross_entropy(z, y, weights, present=None):
    """Weighted mean of −log softmax(z)_y; classes without images are left out of the softmax."""
    kept = [k for k in range(z.shape[1]) if present is None or present[k]]
    total = 0.0
    for row, label, w in zip(z, y, weights, strict=True):
        total -= w * math.log(softmax(row[kept])[kept.index(label)])
    return total


def pull(u, T, R, held):
    """mean_c λ_c R² ‖u_c − T_c‖²."""
    return sum(
        lam * R**2 * sum((a - b) ** 2 for a, b in zip(w, t, strict=True))
        for w, t, lam in zip(u, T, held, strict=True)
    ) / len(T)


def clap_held(X, y, T, s):
    """λ_c: mean zero-shot probability of class c on its own images."""
    held = np.zeros(len(T))
    for k in range(len(T)):
        own = [softmax(s * unit(T) @ x)[k] for x, label in zip(X, y, strict=True) if label == k]
        held[k] = sum(own) / len(own) if own else 0.0
    return held


def gradient(loss, at, step=1e-5):
    """Central differences."""
    out = np.zeros_like(at)
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i] += step
        down[i] -= step
        out[i] = (loss(up) - loss(down)) / (2 * step)
    return out
