"""CALIP: text and places of the image attend to each other, without a parameter."""

from __future__ import annotations

from torch import Tensor

_SHARPNESS = 2.0  # factor on the cosines before both softmaxes


def calip_logits(
    queries: Tensor,
    tokens: Tensor,
    text_features: Tensor,
    *,
    beta2: float,
    beta3: float,
    logit_scale: float,
) -> Tensor:
    """Logits of CALIP, z = s · (f Tᵀ + β₂ f t_aᵀ + β₃ f_a Tᵀ).

    With A = 2 S Tᵀ: t_a = softmax_space(A)ᵀ S is each class's text made of the places that look like it, and
    f_a, the mean plus the maximum over places of softmax_class(A) T, the image made of texts. Neither t_a
    (n, c, d) nor the mean over places is ever built: f t_aᵀ weighs the L numbers f·S, and a mean commutes
    with the product.

    Args:
        queries: Unit-norm features f, (n, d).
        tokens: Unit-norm spatial tokens S, (n, L, d), L ≥ 1.
        text_features: Unit-norm text features T, (c, d).
        beta2: Weight of the text that has looked at the image, ≥ 0.
        beta3: Weight of the image that has looked at the text, ≥ 0.
        logit_scale: s, the encoder's own.

    Returns:
        Logits, (n, c).

    Reference: Guo et al. 2022, arXiv:2209.14169, equations 3–9.
    """
    attention = _SHARPNESS * (tokens @ text_features.T)  # A, (n, L, c)
    places = (tokens @ queries[:, :, None]).squeeze(-1)  # f·S, (n, L)
    by_text = (attention.softmax(1) * places[:, :, None]).sum(1)  # f t_aᵀ, (n, c)
    texts = attention.softmax(2)
    image = texts.mean(1) @ text_features + (texts @ text_features).amax(1)  # f_a, (n, d)
    plain = queries @ text_features.T
    return logit_scale * (plain + beta2 * by_text + beta3 * (image @ text_features.T))
