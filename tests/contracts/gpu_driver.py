"""What every driver of CUDA's checkpoints must do. Its tests say how one is made.

Their module has the fixtures `user`, the pid of a process that holds GPU memory, and `stranger`,
that of one which never called CUDA.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.snapshot.gpu.driver import Driver, State

SECONDS = 30.0


class DriverContract(ABC):
    @abstractmethod
    @pytest.fixture
    def driver(self) -> Driver:
        """The driver under test."""

    def test_it_has_a_name(self, driver: Driver) -> None:
        assert driver.name

    def test_there_and_back(self, driver: Driver, user: int) -> None:
        for _ in range(2):
            seen = [driver.state(user)]
            driver.lock(user, SECONDS)
            seen.append(driver.state(user))
            driver.checkpoint(user)
            seen.append(driver.state(user))
            driver.restore(user)
            seen.append(driver.state(user))
            driver.unlock(user)
            assert seen == [State.RUNNING, State.LOCKED, State.CHECKPOINTED, State.LOCKED]
        assert driver.state(user) is State.RUNNING

    def test_a_lock_alone_is_taken_back(self, driver: Driver, user: int) -> None:
        driver.lock(user, SECONDS)
        driver.unlock(user)
        assert driver.state(user) is State.RUNNING

    def test_steps_out_of_order_are_refused_and_change_nothing(
        self, driver: Driver, user: int
    ) -> None:
        for step in (driver.checkpoint, driver.restore):
            with pytest.raises(GpuFailed, match=str(user)):
                step(user)
        assert driver.state(user) is State.RUNNING

    def test_a_process_without_cuda_has_no_state(self, driver: Driver, stranger: int) -> None:
        with pytest.raises(GpuFailed, match=f"state of process {stranger} failed"):
            driver.state(stranger)
