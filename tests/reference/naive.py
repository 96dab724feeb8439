"""The formulas, letter by letter, in NumPy float64 with explicit loops. Slow on purpose.

Rows are items; ``f`` queries, ``X`` keys with label indices ``y``, ``T`` text features, ``c`` classes.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    if not len(x):
        return x
    return np.stack([row / math.sqrt(sum(v * v for v in row)) for row in x])


def softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return np.array([v / sum(e) for v in e])


def shots(y, c):
    return [sum(1 for label in y if label == k) for k in range(c)]


def keys_of_groups(X, y, groups):
    """One key an image, in order of first appearance: the normalised mean of its unit views."""
    X, order = unit(X), list(dict.fromkeys(groups))
    keys, labels = [], []
    for group in order:
        rows = [i for i, g in enumerate(groups) if g == group]
        keys.append(sum(X[i] for i in rows) / len(rows))
        labels.append(y[rows[0]])
    return unit(keys), np.array(labels)


# ---- zero-shot and Tip-Adapter ----


def zero_shot(f, T, s):
    return np.array([[s * float(np.dot(query, text)) for text in T] for query in f])


def cache_sums(f, X, y, c, beta, weights=None):
    """Σ over the keys of a class of w_j exp(−β(1 − f·X_j))."""
    sums = np.zeros((len(f), c))
    for i, query in enumerate(f):
        for j, key in enumerate(X):
            weight = 1.0 if weights is None else weights[j]
            sums[i, y[j]] += weight * math.exp(-beta * (1 - float(np.dot(query, key))))
    return sums


def balance_factors(y, c):
    """k̄/k_c, k̄ the mean over classes with images; 1 for a class without images."""
    k = shots(y, c)
    present = [n for n in k if n > 0]
    mean = sum(present) / len(present)
    return np.array([mean / n if n > 0 else 1.0 for n in k])


def fill_absent(sums, present):
    """A class without images gets its row's largest sum over the present classes."""
    filled = np.array(sums, dtype=np.float64)
    for row in filled:
        largest = max(v for v, p in zip(row, present, strict=True) if p)
        for k, p in enumerate(present):
            if not p:
                row[k] = largest
    return filled


def balanced(sums, y, c):
    return fill_absent(sums * balance_factors(y, c), [n > 0 for n in shots(y, c)])


def tip_adapter(f, X, y, T, *, alpha, beta, s, class_balance=False):
    sums = cache_sums(f, X, y, len(T), beta)
    return zero_shot(f, T, s) + alpha * (balanced(sums, y, len(T)) if class_balance else sums)


# ---- prior refinement and APE ----


def inter_class_similarity(T, X=None, y=None):
    """Mean over all ordered pairs of rows of different classes of the channel-wise product."""
    rows = [(k, row) for k, row in enumerate(np.asarray(T, dtype=np.float64))]
    if X is not None:
        rows += [(int(label), row) for label, row in zip(y, np.asarray(X, dtype=np.float64), strict=True)]
    total, n_pairs = np.zeros(np.shape(T)[1]), 0
    for class_a, a in rows:
        for class_b, b in rows:
            if class_a != class_b:
                total += a * b
                n_pairs += 1
    return total / n_pairs if n_pairs else total


def inter_class_variance(T):
    T = np.asarray(T, dtype=np.float64)
    c, d = T.shape
    if c < 2:
        return np.zeros(d)
    variance = np.zeros(d)
    for j in range(d):
        mean = sum(T[k, j] for k in range(c)) / c
        variance[j] = sum((T[k, j] - mean) ** 2 for k in range(c)) / (c - 1)
    return variance


def criterion(T, w, X=None, y=None):
    return -w[0] * inter_class_similarity(T, X, y) + w[1] * inter_class_variance(T)


def channels(T, n, w, X=None, y=None):
    """The n channels of largest criterion, by falling criterion."""
    values = criterion(T, w, X, y)
    return sorted(range(len(values)), key=lambda j: -values[j])[:n]


def key_divergence(X, y, T):
    """Σ_c L_ic log₂((L_ic + 1e-6)/(p_ic + 1e-6)), p_i = softmax(X_i Tᵀ)."""
    divergence = []
    for key, label in zip(X, y, strict=True):
        p = softmax([float(np.dot(key, text)) for text in T])
        one_hot = [1.0 if k == label else 0.0 for k in range(len(T))]
        divergence.append(
            sum(v * math.log2((v + 1e-6) / (q + 1e-6)) for v, q in zip(one_hot, p, strict=True))
        )
    return np.array(divergence)


def ape_weights(X, y, T, kept, gamma):
    return np.exp(gamma * key_divergence(unit(X[:, kept]), y, unit(T[:, kept])))


def ape(f, X, y, T, *, kept, alpha, beta, gamma, s, class_balance=False):
    weights = ape_weights(X, y, T, kept, gamma)
    sums = cache_sums(unit(f[:, kept]), unit(X[:, kept]), y, len(T), beta, weights)
    return zero_shot(f, T, s) + alpha * (balanced(sums, y, len(T)) if class_balance else sums)


# ---- leave-one-out ----


def leave_one_out_sums(rows, images, X, y, c, beta, weights=None, scale_alike=False):
    """Class sums of rows that are views of image ``images[i]``: the key is removed, the sums are computed
    again, and that of its class is scaled by Σw/(Σw − w_i), or by k/(k − 1) whatever its keys weigh."""
    w = np.ones(len(X)) if weights is None else np.asarray(weights, dtype=np.float64)
    result = []
    for row, image in zip(rows, images, strict=True):
        rest = [j for j in range(len(X)) if j != image]
        sums = cache_sums(row[None], X[rest], y[rest], c, beta, w[rest])[0]
        sizes = np.ones(len(X)) if scale_alike else w
        total = sum(sizes[j] for j in range(len(X)) if y[j] == y[image])
        if total > sizes[image]:
            sums[y[image]] *= total / (total - sizes[image])
        result.append(sums)
    return np.array(result)


def class_removed_sums(rows, labels, X, y, c, beta, weights=None):
    """Class sums with the row's whole class removed, which then gets the largest sum as an absent one."""
    w = np.ones(len(X)) if weights is None else np.asarray(weights, dtype=np.float64)
    result = []
    for row, label in zip(rows, labels, strict=True):
        rest = np.array([j for j in range(len(X)) if y[j] != label])
        sums = cache_sums(row[None], X[rest], y[rest], c, beta, w[rest])
        result.append(fill_absent(sums, [n > 0 for n in shots(y[rest], c)])[0])
    return np.array(result)


def leave_one_out_means(X, y, c, s):
    """Cosines to class means, the mean of the own class without the image itself."""
    X, logits = unit(X), []
    for i in range(len(X)):
        means = [
            sum(X[j] for j in range(len(X)) if y[j] == k and not (j == i and y[i] == k)) for k in range(c)
        ]
        logits.append([s * float(np.dot(X[i], unit(np.reshape(mean, (1, -1)))[0])) for mean in means])
    return np.array(logits)


# ---- the best α ----


def n_right(A, B, y, alpha):
    """Rows whose own logit is strictly above every other, at α; exact for integers and Fractions."""
    count = 0
    for a, b, label in zip(A, B, y, strict=True):
        z = [u + alpha * v for u, v in zip(a, b, strict=True)]
        count += all(z[label] > v for k, v in enumerate(z) if k != label)
    return count


def plateaus(A, B, y):
    """(start, stop, count) of each interval of α ≥ 0 between breakpoints, the last with stop inf, and the
    counts at the breakpoints themselves (0 among them), all exact for integer logits."""
    points = {Fraction(0)}
    for a, b, label in zip(A, B, y, strict=True):
        for k in range(len(a)):
            if b[k] != b[label]:
                points.add(Fraction(-int(a[k] - a[label]), int(b[k] - b[label])))
    points = sorted(p for p in points if p >= 0)
    A, B = [[int(v) for v in row] for row in A], [[int(v) for v in row] for row in B]
    intervals = []
    for start, stop in zip(points, [*points[1:], math.inf], strict=True):
        middle = start + 1 if stop == math.inf else (start + stop) / 2
        intervals.append((start, stop, n_right(A, B, y, middle)))
    return intervals, {p: n_right(A, B, y, p) for p in points}


def merged_plateaus(intervals, at_points):
    """Neighbouring intervals with the same count at and around the breakpoint between them become one."""
    merged = [intervals[0]]
    for start, stop, count in intervals[1:]:
        if merged[-1][2] == count == at_points[start]:
            merged[-1] = (merged[-1][0], stop, count)
        else:
            merged.append((start, stop, count))
    return merged


def folds(X, y, most=4):
    """Fold of each key: those of a class, by the sum of their channels, dealt out in turn."""
    n_folds, out = min(most, max(2, max(shots(y, max(y) + 1)))), [0] * len(y)
    for label in set(y):
        own = sorted((i for i in range(len(y)) if y[i] == label), key=lambda i: float(np.sum(X[i])))
        for place, i in enumerate(own):
            out[i] = place % n_folds
    return out


# ---- intervals ----


def wilson(accuracy, n, z=1.959964):
    """The roots p of (accuracy − p)² = z² p(1 − p)/n."""
    a, b, q = 1 + z * z / n, -(2 * accuracy + z * z / n), accuracy**2
    root = math.sqrt(max(0.0, b * b - 4 * a * q))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


# ---- the rivals' logits ----


def clip_adapter(f, T, down, up, r, s):
    out = []
    for x in f:
        h = [max(0.0, float(np.dot(row, x))) for row in down]
        g = [r * max(0.0, float(np.dot(row, h))) + (1 - r) * v for row, v in zip(up, x, strict=True)]
        norm = math.sqrt(sum(v * v for v in g)) or 1.0  # without a direction it stays zero
        out.append([s * float(np.dot(g, t)) / norm for t in T])
    return np.array(out)


def calip(f, S, T, beta2, beta3, s):
    z = s * zero_shot(f, T, 1.0)
    for i, (query, tokens) in enumerate(zip(f, S, strict=True)):
        A = np.array([[2 * float(np.dot(token, text)) for text in T] for token in tokens])
        over_space = [softmax(A[:, c]) for c in range(len(T))]
        over_class = [softmax(row) for row in A]
        images = [sum(w * text for w, text in zip(row, T, strict=True)) for row in over_class]  # one a place
        f_a = [sum(v) / len(v) + max(v) for v in zip(*images, strict=True)]
        for c in range(len(T)):
            t_a = sum(w * token for w, token in zip(over_space[c], tokens, strict=True))
            z[i, c] += s * (beta2 * float(np.dot(query, t_a)) + beta3 * float(np.dot(f_a, T[c])))
    return z


def tip_x_divergence(f, X, T, tau):
    p, q = ([softmax([float(np.dot(x, t)) / tau for t in T]) for x in rows] for rows in (f, X))
    return np.array([[sum(a * math.log(a / b) for a, b in zip(pi, qj, strict=True)) for qj in q] for pi in p])


def tip_x_affinity(D, source, target):
    if source[1] - source[0] < 1e-12:
        return np.zeros_like(D)
    share = (D - source[0]) / (source[1] - source[0])
    return -(target[0] + share * (target[1] - target[0]))


def ape_t(f, X, y, T, channels, R, v, alpha, beta, s):
    T, X = np.array(T, dtype=float), np.array(X, dtype=float)
    for c in range(len(T)):
        for k, j in enumerate(channels):
            T[c, j] += R[c][k]
    for i, label in enumerate(y):
        for k, j in enumerate(channels):
            X[i, j] += R[label][k]
    return zero_shot(f, T, s) + alpha * cache_sums(f, X, y, len(T), beta, v)


def tip_x(f, X, y, T, *, alpha, beta, gamma, tau, s):
    """Inductive: both ranges are those of pairs of different keys."""
    among, cosines = tip_x_divergence(X, X, T, tau), X @ X.T
    pairs = [(i, j) for i in range(len(X)) for j in range(len(X)) if i != j]
    source = target = (0.0, 0.0)
    if pairs:
        source = min(among[p] for p in pairs), max(among[p] for p in pairs)
        target = min(cosines[p] for p in pairs), max(cosines[p] for p in pairs)
    A = tip_x_affinity(tip_x_divergence(f, X, T, tau), source, target)
    z = tip_adapter(f, X, y, T, alpha=alpha, beta=beta, s=s)
    for i in range(len(f)):
        for j, label in enumerate(y):
            z[i, label] += gamma * A[i, j]
    return z
