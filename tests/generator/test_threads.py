"""Threads: the faster number is kept, trials are rare, the setting is put back."""

import time

import pytest
import torch

from streamsketch.generator import threads


@pytest.fixture
def two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("faster", [1, 2])
def test_the_faster_number_is_kept_and_the_setting_put_back(two, faster):
    pace = threads.Threads(adapt=True)
    used = []

    def step():
        used.append(torch.get_num_threads())
        time.sleep(0.001 if used[-1] == faster else 0.02)

    for _ in range(30):
        pace.run(step)
    assert used[-20:] == [faster] * 20
    pace.restore()
    assert torch.get_num_threads() == 2


def test_a_dear_trial_is_repeated_rarely(two, monkeypatch):
    monkeypatch.setattr(threads, "EVERY", 0.01)
    pace = threads.Threads(adapt=True)
    slow = []

    def step():
        slow.append(torch.get_num_threads() == 2)
        time.sleep(0.02 if slow[-1] else 0.001)

    begun = time.perf_counter()
    while time.perf_counter() - begun < 1.5:
        pace.run(step)
    assert 2 <= sum(slow) <= 6  # a trial costs 40 ms, so the next comes after some 800 ms


def test_without_adapting_nothing_is_touched(two):
    pace = threads.Threads(adapt=False)
    for _ in range(10):
        pace.run(lambda: None)
        assert torch.get_num_threads() == 2
