# SPDX-License-Identifier: Apache-2.0
"""Figures of how well outputs fit, against values computed by hand or by their definitions."""

import itertools
import math

import numpy as np
import pytest

from host.training.metrics import area_under_curve, error_percent, mean_squared_error, metrics, r_squared


def test_the_error_counts_answers_that_are_not_the_label():
    outputs = np.array([[1, 5, 2], [3, 3, 0], [-9, -2, -3], [0, 0, 1], [7, 8, 9]])
    # The answers are 1, 0 (the first of two equal ones), 1, 2, 2.
    assert error_percent(outputs, np.array([1, 0, 1, 2, 2])) == 0
    assert error_percent(outputs, np.array([1, 1, 0, 2, 2])) == 40
    assert error_percent(outputs / 256, np.array([0, 1, 0, 1, 1])) == 100


def test_the_mean_squared_error_is_over_examples_and_outputs():
    targets = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    # Differences 1, 0, -2, 3: (1 + 0 + 4 + 9) / 4.
    assert mean_squared_error(np.array([[2.0, 2.0], [1.0, 8.0]], np.float32), targets) == 3.5
    assert mean_squared_error(targets, targets) == 0
    # In float32 the squares would be infinite, and of integers they would wrap.
    assert mean_squared_error(np.array([[1e30]], np.float32), np.zeros((1, 1), np.float32)) == pytest.approx(1e60)
    assert mean_squared_error(np.array([[100]], np.int8), np.array([[-100.0]], np.float32)) == 40_000


def test_r2_compares_with_the_mean():
    targets = np.array([[1.0], [2.0], [3.0], [6.0]], np.float32)
    # The mean is 3; squares about it 4 + 1 + 0 + 9 = 14, of the differences 1 + 0 + 1 + 4 = 6.
    assert r_squared(np.array([[2.0], [2.0], [2.0], [4.0]]), targets) == pytest.approx(1 - 6 / 14)
    assert r_squared(targets, targets) == 1 and r_squared(np.full((4, 1), 3.0), targets) == 0
    assert r_squared(-targets, targets) == pytest.approx(1 - 4 * 50 / 14)
    assert math.isnan(r_squared(targets, np.full((4, 1), 5.0, np.float32)))


def test_several_outputs_have_one_r2_about_the_mean_of_each():
    targets = np.array([[0.0, 100.0], [2.0, 120.0]], np.float32)
    # Squares about the means 1 and 110: 2 + 200; of the differences 1 + 100.
    assert r_squared(np.array([[1.0, 100.0], [2.0, 110.0]]), targets) == pytest.approx(1 - 101 / 202)
    # An output that is always the same adds nothing to the spread.
    assert r_squared(np.array([[1.0, 7.0], [2.0, 7.0]]), np.array([[0.0, 7.0], [2.0, 7.0]])) == pytest.approx(0.5)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    # Positive 0.8, 0.4, 0.35; negative 0.1, 0.4: of 6 pairs 4 in order, one equal.
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([False, False, True, True, True])
    assert area_under_curve(scores, positive) == pytest.approx(4.5 / 6)
    assert area_under_curve(-scores, positive) == pytest.approx(1.5 / 6)
    assert area_under_curve(scores, scores > 0.37) == 1 and area_under_curve(np.zeros(5), positive) == 0.5
    assert math.isnan(area_under_curve(scores, np.ones(5, bool))) and math.isnan(
        area_under_curve(scores, np.zeros(5, bool)))


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_that_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(-6, 6, 40), rng.random(40) < 0.3
    pairs = [(one > other) + (one == other) / 2
             for one, other in itertools.product(scores[positive], scores[~positive])]
    assert area_under_curve(scores, positive) == pytest.approx(sum(pairs) / len(pairs))


def test_the_labels_decide_which_figures_there_are():
    three, two, one = np.array([[1, 2, 3], [3, 2, 1]]), np.array([[1, 2], [3, 1], [0, 0]]), np.array([[1.0], [3.0]])
    assert metrics(three, np.array([2, 2])) == {"error": 50}
    # Scores 1, -2, 0; the positive one is the first.
    assert metrics(two, np.array([1, 0, 0])) == {"error": 0, "auc": 1}
    assert metrics(two, np.array([0, 0, 1])) == {"error": pytest.approx(200 / 3), "auc": 0.5}
    assert metrics(two[:2], np.array([1, 1])) == {"error": 50}
    targets = np.array([[2.0], [4.0]], np.float32)
    assert metrics(one, targets) == {"mse": 1, "r2": 0}
    assert metrics(one, np.array([[0.0], [1.0]], np.float32)) == {"mse": 2.5, "r2": -9, "auc": 1}
    assert metrics(one, np.array([[1.0], [3.0]], np.float32)) == {"mse": 0, "r2": 1}
    assert metrics(one, np.array([[1.0], [1.0]], np.float32)) == {"mse": 2}
    assert metrics(two.astype(float), np.ones((3, 2), np.float32)).keys() == {"mse"}
