"""Zero-shot and key-value cache: golden outputs, naive loops, gradients, and what is never built."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.memory import peak_growth
from torch.utils._python_dispatch import TorchDispatchMode

from fewclip.functional import affinity, cache_logits, class_sums, tip_adapter_logits, unit, zero_shot_logits


@st.composite
def problems(draw):
    """Random sizes, unequal shots, classes without images."""
    c, d, n = draw(st.integers(1, 5)), draw(st.integers(1, 8)), draw(st.integers(1, 6))
    shots = draw(st.lists(st.integers(0, 4), min_size=c, max_size=c).filter(any))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.permutation(np.repeat(np.arange(c), shots))
    f, X, T = (naive.unit(rng.normal(size=(rows, d))) for rows in (n, len(y), c))
    return f, X, y, T, rng


def tensors(*arrays):
    return [torch.as_tensor(a) for a in arrays]


def test_published_zero_shot_and_tip_adapter(golden):
    f, X, y, T = tensors(
        *(golden[k] for k in ("query_features", "support_features", "support_labels", "text_features"))
    )
    z = zero_shot_logits(f, T, logit_scale=100.0)
    np.testing.assert_allclose(z, golden["zero_shot_logits"], atol=1e-3)
    z = tip_adapter_logits(
        f, X, y, T, alpha=float(golden["alpha"]), beta=float(golden["beta"]), logit_scale=100.0
    )
    np.testing.assert_allclose(z, golden["tip_adapter_logits"], atol=1e-3)


def test_a_case_worked_by_hand():
    # f = (1, 0); keys (1, 0), (0, 1), (0.6, 0.8) of classes 0, 1, 1; cosines 1, 0, 0.6; β = ln 2:
    # affinities 2^-(1 - cos) = 1, 1/2, 2^-0.4. B = (1, 0.5 + 2^-0.4).
    # T = (1, 0), (0.6, 0.8): s·f Tᵀ = 10·(1, 0.6); α = 2: z = (12, 7 + 2·2^-0.4).
    f = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)
    y, T = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    B = cache_logits(f, X, y, 2, beta=math.log(2))
    np.testing.assert_allclose(B, [[1, 0.5 + 2**-0.4]], rtol=1e-12)
    # weights 3, 2, 0: B = (3, 1); a third class without keys has 0
    B = cache_logits(f, X, y, 3, beta=math.log(2), weights=torch.tensor([3.0, 2.0, 0.0], dtype=torch.float64))
    np.testing.assert_allclose(B, [[3, 1, 0]], rtol=1e-12)
    z = tip_adapter_logits(f, X, y, T, alpha=2.0, beta=math.log(2), logit_scale=10.0)
    np.testing.assert_allclose(z, [[12, 7 + 2 * 2**-0.4]], rtol=1e-12)


@given(problems(), st.floats(0, 20), st.floats(0, 50), st.floats(0.1, 100))
def test_tip_adapter_equals_naive_loops(problem, beta, alpha, s):
    f, X, y, T, _ = problem
    z = tip_adapter_logits(*tensors(f, X, y, T), alpha=alpha, beta=beta, logit_scale=s)
    np.testing.assert_allclose(
        z, naive.tip_adapter(f, X, y, T, alpha=alpha, beta=beta, s=s), rtol=1e-9, atol=1e-9
    )


@given(problems(), st.floats(0, 20), st.booleans())
def test_cache_logits_equals_naive_loops(problem, beta, weighted):
    f, X, y, T, rng = problem
    weights = rng.uniform(0, 3, len(X)) if weighted else None
    B = cache_logits(
        *tensors(f, X, y), len(T), beta=beta, weights=None if weights is None else torch.as_tensor(weights)
    )
    assert B.shape == (len(f), len(T))
    assert B.dtype == torch.float64
    np.testing.assert_allclose(B, naive.cache_sums(f, X, y, len(T), beta, weights), rtol=1e-9, atol=1e-12)


@given(problems(), st.floats(0, 20))
def test_the_order_of_keys_does_not_matter(problem, beta):
    f, X, y, T, rng = problem
    order = rng.permutation(len(y))
    one = cache_logits(*tensors(f, X, y), len(T), beta=beta)
    other = cache_logits(*tensors(f, X[order], y[order]), len(T), beta=beta)
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_tiles_do_not_show():
    # 3,000 queries × 3,000 keys are more affinities than are held at once
    g = torch.Generator().manual_seed(0)
    f, X = (unit(torch.randn(3000, 4, generator=g)) for _ in range(2))
    y = torch.randint(7, (3000,), generator=g)
    whole = torch.exp(-2.5 * (1 - f @ X.T)) @ torch.nn.functional.one_hot(y, 7).float()
    torch.testing.assert_close(cache_logits(f, X, y, 7, beta=2.5), whole, rtol=1e-4, atol=1e-2)
    few = cache_logits(f[:3], X, y, 7, beta=2.5)
    torch.testing.assert_close(few, whole[:3], rtol=1e-4, atol=1e-2)
    assert cache_logits(f[:0], X, y, 7, beta=2.5).shape == (0, 7)


def test_inputs_stay_as_they_are():
    g = torch.Generator().manual_seed(0)
    f, X, T = (unit(torch.randn(5, 4, generator=g)) for _ in range(3))
    y, w = torch.tensor([4, 0, 2, 1, 3]), torch.rand(5, generator=g)
    before = [t.clone() for t in (f, X, y, T, w)]
    cache_logits(f, X, y, 5, beta=1.0, weights=w)
    tip_adapter_logits(f, X, y, T, alpha=1.0, beta=1.0, logit_scale=100.0)
    for tensor, copy in zip((f, X, y, T, w), before, strict=True):
        assert torch.equal(tensor, copy)


def test_affinity_and_class_sums_by_hand():
    # exp(−2(1 − 0.5)) = e^-1; a cosine of 1 gives 1 whatever β
    np.testing.assert_allclose(affinity(torch.tensor([[0.5, 1.0]]), beta=2.0), [[math.exp(-1), 1]], rtol=1e-6)
    # columns 0 and 2 belong to class 1, column 1 to class 0, none to class 2
    sums = class_sums(torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]), torch.tensor([1, 0, 1]), 3)
    assert sums.tolist() == [[2, 5, 0], [16, 40, 0]]


def test_gradients_flow_to_queries_keys_and_weights():
    g = torch.Generator().manual_seed(0)
    f, X = (torch.randn(n, 3, generator=g, dtype=torch.float64, requires_grad=True) for n in (4, 6))
    w = torch.rand(6, generator=g, dtype=torch.float64).requires_grad_()
    y = torch.tensor([2, 0, 1, 2, 2, 0])
    assert torch.autograd.gradcheck(lambda f, X, w: cache_logits(f, X, y, 4, beta=1.5, weights=w), (f, X, w))
    T = torch.randn(4, 3, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda f, X, T: tip_adapter_logits(f, X, y, T, alpha=0.7, beta=1.5, logit_scale=3.0), (f, X, T)
    )


class Shapes(TorchDispatchMode):
    """Records the shape of every tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.seen.add(tuple(value.shape))
        return result


def test_neither_one_hot_labels_nor_all_affinities_are_built():
    n, m, c = 4000, 3000, 250
    g = torch.Generator().manual_seed(0)
    f, X = unit(torch.randn(n, 8, generator=g)), unit(torch.randn(m, 8, generator=g))
    y = torch.randint(c, (m,), generator=g)
    with Shapes() as shapes:
        cache_logits(f, X, y, c, beta=1.0, weights=torch.rand(m, generator=g))
    assert not {(m, c), (c, m), (n, m), (m, n)} & shapes.seen
    assert max(math.prod(shape) for shape in shapes.seen) < n * m


BIG = """
import torch
from fewclip.functional import cache_logits, unit
g = torch.Generator().manual_seed(0)
f, X = unit(torch.randn(20_000, 32, generator=g)), unit(torch.randn(4_000, 32, generator=g))
y = torch.randint(1000, (4_000,), generator=g)
cache_logits(f[:100], X, y, 1000, beta=1.0)  # whatever torch sets up once
"""


def test_memory_of_a_big_cache():
    growth = peak_growth(BIG, "B = cache_logits(f, X, y, 1000, beta=1.0)\nassert B.shape == (20_000, 1000)")
    # The result takes 76 MiB, and once more while its tiles are joined; all affinities would take 305 MiB.
    assert 70 < growth < 240


@settings(max_examples=25)
@given(problems())
def test_unit_rows(problem):
    _, X, _, _, rng = problem
    scaled = X * rng.uniform(0.1, 10, (len(X), 1))
    np.testing.assert_allclose(unit(torch.as_tensor(scaled)), X, rtol=1e-10, atol=1e-12)
