# SPDX-License-Identifier: Apache-2.0
"""The learning rate, and torch's settings."""

import pytest
import torch

from host.training.optimiser import one_cycle, settle_torch


def test_the_learning_rate_of_one_cycle():
    rates = [one_cycle(2.0, step / 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.08) and max(rates) == rates[15] == 2 and rates[-1] < 0.002
    assert sorted(rates[:15]) == rates[:15] and sorted(rates[15:], reverse=True) == rates[15:]


def test_the_learning_rate_rises_as_long_as_it_is_told():
    assert one_cycle(1.0, 0.5, warm_up=0.5) == 1
    # Halfway up and halfway down a cosine.
    assert one_cycle(1.0, 0.25, warm_up=0.5) == pytest.approx(0.52)
    assert one_cycle(1.0, 0.75, warm_up=0.5) == pytest.approx(0.5) and one_cycle(1.0, 1.0) == pytest.approx(0)


def test_torch_has_one_thread_and_no_denormals():
    threads, small = torch.get_num_threads(), torch.tensor([2e-38])
    try:
        torch.set_num_threads(2)
        torch.set_flush_denormal(False)
        assert small / 2 > 0
        settle_torch()
        assert torch.get_num_threads() == 1 and small / 2 == 0
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
