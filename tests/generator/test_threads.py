"""Threads: the faster number is kept, trials are rare, the setting is put back."""

import pytest
import torch

from streamsketch.generator import threads


@pytest.fixture
def two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Clock:
    """Time that only steps move on."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(threads, "time", self)

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize("faster", [1, 2])
def test_the_faster_number_is_kept_and_the_setting_put_back(two, faster, monkeypatch):
    clock = Clock(monkeypatch)
    pace = threads.Threads(adapt=True)
    used = []

    def step():
        used.append(torch.get_num_threads())
        clock.now += 0.001 if used[-1] == faster else 0.02

    for _ in range(30):
        pace.run(step)
    assert used[-20:] == [faster] * 20
    pace.restore()
    assert torch.get_num_threads() == 2


def test_a_dear_trial_is_repeated_rarely(two, monkeypatch):
    monkeypatch.setattr(threads, "EVERY", 0.01)
    clock = Clock(monkeypatch)
    pace = threads.Threads(adapt=True)
    slow = []

    def step():
        slow.append(torch.get_num_threads() == 2)
        clock.now += 0.02 if slow[-1] else 0.001

    while clock.now < 1.5:
        pace.run(step)
    assert (
        sum(slow) == 5
    )  # the first step, two trials: one costs 40 ms, so the next comes after some 800 ms


def test_without_adapting_nothing_is_touched(two):
    pace = threads.Threads(adapt=False)
    for _ in range(10):
        pace.run(lambda: None)
        assert torch.get_num_threads() == 2
