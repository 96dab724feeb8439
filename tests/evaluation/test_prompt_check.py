"""Prompts against the images of their class, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fewclip.errors import FeatureError, LabelError
from fewclip.evaluation.prompt_check import ClassScore, PromptScore, check_prompts

# Means of the prompts: class 0 (0.71, 0.71), class 1 (0.6, 0.8).
PROMPTS = [np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.6, 0.8]])]
# Their cosines with the images:
#               class 0   class 1   right
#   (1, 0)       0.71      0.60     0: yes; 1: no
#   (0.8, 0.6)   0.99      0.96     0: yes
#   (0, 1)       0.71      0.80     1: yes
IMAGES = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
LABELS = np.array([0, 0, 1, 1])


def test_classes_by_hand():
    found = check_prompts(IMAGES, LABELS, PROMPTS)
    assert found.classes == (
        ClassScore(index=1, images=2, wrong=1, taken_by=0),
        ClassScore(index=0, images=2, wrong=0, taken_by=None),
    )


def test_prompts_by_hand():
    """Prompt (0, 1) of class 0 has 0 < 0.6 and 0.6 < 0.96: no image; prompt (1, 0) has 1 > 0.6, 0.8 < 0.96.

    The mean images are (0.9, 0.3) and, of the first three, (0, 1): (0, 1) is nearer to the latter; (0.6, 0.8)
    has 0.78 with the first, 0.80 with the second.
    """
    found = check_prompts(IMAGES[:3], LABELS[:3], PROMPTS)
    assert found.prompts == (
        PromptScore(index=0, prompt=1, accuracy=0.0, nearest=1),
        PromptScore(index=0, prompt=0, accuracy=0.5, nearest=0),
        PromptScore(index=1, prompt=0, accuracy=1.0, nearest=1),
    )
    assert [score.elsewhere for score in found.prompts] == [True, False, False]


def test_the_length_of_features_does_not_matter():
    scaled = [rows * 7 for rows in PROMPTS]
    assert check_prompts(IMAGES * 3, LABELS, scaled) == check_prompts(IMAGES, LABELS, PROMPTS)


def test_the_only_prompt_of_a_class_has_the_accuracy_of_the_class():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 8)), np.arange(60) % 5
    found = check_prompts(features, labels, list(rng.normal(size=(5, 1, 8))))
    shares = {score.index: 1 - score.wrong / score.images for score in found.classes}
    assert {score.index: score.accuracy for score in found.prompts} == pytest.approx(shares)
    assert [score.accuracy for score in found.prompts] == sorted(score.accuracy for score in found.prompts)


def test_classes_with_the_same_prompts_cannot_be_told_apart():
    same = np.array([[1.0, 0.0]])
    found = check_prompts(np.eye(2), np.array([0, 1]), [same, same])
    assert [score.wrong for score in found.classes] == [1, 1]
    assert [score.accuracy for score in found.prompts] == [0, 0]


def test_a_class_without_images_comes_last_and_its_prompts_are_not_judged():
    found = check_prompts(IMAGES, LABELS, [*PROMPTS, np.array([[-1.0, 0.0]])])
    assert found.classes[-1] == ClassScore(index=2, images=0, wrong=0, taken_by=None)
    assert {score.index for score in found.prompts} == {0, 1}


@pytest.mark.parametrize(
    ("features", "prompts"),
    [(IMAGES[:0], PROMPTS), (IMAGES[0], PROMPTS), (IMAGES, PROMPTS[:1]), (IMAGES, [np.ones((1, 3))] * 2),
     (IMAGES, [PROMPTS[0], np.empty((0, 2))])],
)  # fmt: skip
def test_features_that_do_not_fit(features, prompts):
    with pytest.raises(FeatureError, match="features and prompts"):
        check_prompts(features, LABELS[: len(features)], prompts)


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 1, 2], [0, 0, 1, -1], [0.0, 0.0, 1.0, 1.0]])
def test_labels_that_do_not_fit(labels):
    with pytest.raises(LabelError, match="labels"):
        check_prompts(IMAGES, np.array(labels), PROMPTS)
