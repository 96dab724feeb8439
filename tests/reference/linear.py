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


def task_res(f, T, residual, R, s):
    """z = s · f · unit(R T + a r)."""
    return np.array([[s * float(np.dot(q, w)) for w in unit(R * T + residual)] for q in f])


def lp_plus_plus(f, T, w, b, a):
    """z = f · w_c + b_c + a_c f · T_c."""
    z = np.zeros((len(f), len(T)))
    for i, q in enumerate(f):
        for k in range(len(T)):
            z[i, k] = float(np.dot(q, w[k])) + b[k] + a[k] * float(np.dot(q, T[k]))
    return z


def fit_lp_plus_plus(X, y, T, s, epochs):
    """The descent of LP++ for equal shots, gradients by hand, image by image."""
    m, c = len(X), len(T)
    w, b, a = np.zeros_like(T, dtype=float), np.zeros(c), np.zeros(c)
    for x, label in zip(X, y, strict=True):
        w[label] += x
        a += 2.5 * s * float(np.dot(x, T[label])) / m
    step = 4 * m / np.linalg.eigvalsh(X.T @ X).max()
    step_a = m / (4 * max(sum(float(np.dot(x, t)) ** 2 for x in X) for t in T))
    speed_w, speed_b = np.zeros_like(w), np.zeros(c)

    def gradients():
        gw, gb, ga = np.zeros_like(w), np.zeros(c), np.zeros(c)
        for x, row, label in zip(X, lp_plus_plus(X, T, w, b, a), y, strict=True):
            p = softmax(row)
            for k in range(c):
                error = (p[k] - (k == label)) / m
                gw[k] += error * x
                gb[k] += error
                ga[k] += error * float(np.dot(x, T[k]))
        return gw, gb, ga

    for epoch in range(1, epochs + 1):
        gw, gb, _ = gradients()
        speed_w, speed_b = 0.9 * speed_w + gw, 0.9 * speed_b + gb
        w, b = w - step * speed_w, b - step * speed_b
        if epoch % 10 == 0:
            a = a - step_a * gradients()[2]
    return w, b, a


def linear_adapter(f, T, delta, s):
    """z = s · unit(f + f Δ) · T."""
    return np.array([[s * float(np.dot(q, t)) for t in T] for q in unit(f + f @ delta)])
