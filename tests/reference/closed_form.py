"""Closed-form and training-free heads, letter by letter, in NumPy float64. Slow on purpose.

``X`` rows of labelled images with label indices ``y``, ``T`` text features, ``f`` queries, ``s`` logit scale.
"""

from __future__ import annotations

import math

import numpy as np

from reference.naive import shots, unit, zero_shot


def means(X, y, c):
    return np.array(
        [sum(X[i] for i in range(len(y)) if y[i] == k) / max(1, shots(y, c)[k]) for k in range(c)]
    )


def scatter(rows, centres):
    d = len(rows[0])
    W = np.zeros((d, d))
    for row, centre in zip(rows, centres, strict=True):
        W += np.outer(row - centre, row - centre)
    return W


def gda_scores(f, X, y, T, tau=0.0, c=None):
    """f P μ_cᵀ − ½ μ_c P μ_cᵀ with a pseudo-inverse, as published."""
    X, c, (m, d) = np.array(X, dtype=float), len(T) if c is None else c, np.shape(X)
    mu = means(X, y, c)
    W = scatter(X, [mu[label] for label in y])
    gaps = X - np.array([T[label] for label in y]) if T is not None else X * 0
    gaps = scatter(gaps, [gaps.mean(0)] * m)
    if np.trace(W) < 1e-9:
        tau = tau or 1.0
    W = W + tau * gaps
    P = np.eye(d) * d
    if np.trace(W) > 1e-9:
        P = d * np.linalg.pinv(W + np.trace(W) / (m - 1) * np.eye(d))
    return np.array([[float(q @ P @ v - 0.5 * v @ P @ v) for v in mu] for q in f])


def gda(f, X, y, T, *, alpha, s, tau=0.0):
    return zero_shot(f, T, s) + alpha * gda_scores(f, X, y, T, tau)


def ss_text(f, X, y, T, *, s, R, balanced=False):
    c, k, m = len(T), shots(y, len(T)), len(y)
    present = [n for n in k if n]
    v = []
    for label in range(c):
        total = sum((X[i] for i in range(m) if y[i] == label), np.zeros(len(T[0])))
        share = k[label] / m
        if balanced:
            share = 0 if not k[label] else (sum(present) / len(present)) / k[label] / len(present)
        v.append(R * T[label] + s * share * total)
    mean = sum(v) / c
    w = [vc - unit([2 * vc - mean])[0] for vc in v]
    return np.array([[s * float(np.dot(q, wc)) / math.sqrt(float(np.dot(wc, wc))) for wc in w] for q in f])


def proker_correction(f, X, y, T, *, beta, ridge, w=None):
    """k(f, X) (K/λ + diag(1/w))⁻¹ (L − X Tᵀ)."""
    m, c = len(y), len(T)

    def k(a, b):
        return math.exp(-beta * (1 - float(np.dot(a, b))))

    M = np.array([[k(X[i], X[j]) / ridge for j in range(m)] for i in range(m)])
    R = np.zeros((m, c))
    for i in range(m):
        M[i, i] += 1.0 if w is None else 1 / w[i]
        for j in range(c):
            R[i, j] = (1.0 if y[i] == j else 0.0) - float(np.dot(X[i], T[j]))
    a = np.linalg.solve(M, R)
    return np.array([sum(k(q, X[i]) * a[i] for i in range(m)) for q in f])


def proker(f, X, y, T, *, s, beta, ridge, alpha=1.0, w=None):
    X, T = np.array(X, dtype=float), np.array(T, dtype=float)
    return zero_shot(f, T, s) + s * alpha * proker_correction(f, X, y, T, beta=beta, ridge=ridge, w=w)


def timo(f, X, y, prompts, *, alpha, s, g=50.0, n=None):
    """``prompts``: for each class its unit-norm rows."""
    c, text, rows, labels = len(prompts), [], list(np.array(X, dtype=float)), list(y)
    for k in range(c):
        own = [X[i] for i in range(len(y)) if y[i] == k]
        if not own:
            text.append(unit([sum(prompts[k])])[0])
            continue
        v = unit([sum(own)])[0]
        m = [float(np.dot(v, t)) for t in prompts[k]]
        norm = math.sqrt(sum(value * value for value in m))
        a = [math.exp(g * value / norm) for value in m]
        text.append(unit([sum(w * t for w, t in zip(a, prompts[k], strict=True))])[0])
        best = sorted(range(len(m)), key=lambda p: -m[p])[: len(m) if n is None else n]
        rows += [m[p] * prompts[k][p] for p in best]
        labels += [k] * len(best)
    return zero_shot(f, text, s) + alpha * gda_scores(f, rows, labels, None, c=c)
