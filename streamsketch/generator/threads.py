"""One thread or all: which is faster is found by the clock, again and again.

On idle cores all threads win. On cores that consumers and samplers use too, each product of
matrices waits for its slowest thread, and one thread can be thirty times faster than two.
"""

import time
from collections.abc import Callable

import torch

__all__ = ["Threads"]

EVERY = 5.0  # seconds between trials
SHARE = 20.0  # a trial may cost one part in this of the time until the next


class Threads:
    """Runs steps with the number of torch threads that was faster when last tried.

    Args:
        adapt: Whether to try at all; without, the number of threads stays as it is, and so do
            the bits of the result.
    """

    def __init__(self, adapt: bool) -> None:
        self.most = torch.get_num_threads()
        self.adapt = adapt and self.most > 1
        self.plan: list[int] = [1, self.most, 1, self.most]
        self.took: dict[int, float] = {}
        self.wait, self.last = 0.0, 0.0
        self.warm = False

    def run(self, step: Callable[[], None]) -> None:
        """Run a step, as part of a trial when one is due."""
        if not self.adapt or not self.warm:
            self.warm = True  # the first step compiles
            step()
            return
        if not self.plan and time.perf_counter() - self.last > self.wait:
            self.plan, self.took = [1, self.most, 1, self.most], {}
        if not self.plan:
            step()
            return
        count = self.plan.pop()
        torch.set_num_threads(count)
        begun = time.perf_counter()
        step()
        seconds = time.perf_counter() - begun
        self.took[count] = min(self.took.get(count, seconds), seconds)
        if not self.plan:
            torch.set_num_threads(min(self.took, key=lambda n: self.took[n]))
            self.last = time.perf_counter()
            self.wait = max(EVERY, SHARE * 2 * sum(self.took.values()))

    def restore(self) -> None:
        """Set the number of threads back."""
        if self.adapt:
            torch.set_num_threads(self.most)
