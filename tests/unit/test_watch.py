"""When a job writes checkpoints and when it leaves."""

import os
import signal
import time

import pytest

from hpcslmc.parallel.watch import Watch
from hpcslmc.parallel.world import World


class Clock:
    """Time that stands still unless told to go on."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("hpcslmc.parallel.watch.time.monotonic", lambda: self.now)
        monkeypatch.setattr("hpcslmc.parallel.watch.time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in Watch.SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_checkpoint_comes_at_once_the_next_in_its_time(clock):
    watch, decisions = Watch(World(), 10.0), []
    for _ in range(25):
        clock.now += 1.0
        decisions.append(watch.decide().checkpoint)
        if decisions[-1]:
            watch.checkpoint_written()
    assert [k for k, due in enumerate(decisions) if due] == [0, 10, 20]


@pytest.mark.parametrize(
    "unit, checkpoint", [(0.01, 0.1), (1.0, 0.1), (1.0, 30.0), (20.0, 0.1), (20.0, 60.0)]
)
def test_the_last_checkpoint_is_written_before_the_end(clock, unit, checkpoint):
    """Units of work and checkpoints that last as long as before, and a quarter more."""
    watch = Watch(World(), 200.0, ends_at=clock.now + 1000.0)
    leave = ""
    while not leave:
        clock.now += 1.25 * unit
        decision = watch.decide()
        leave = decision.leave
        if decision.checkpoint:
            clock.now += checkpoint * (1.25 if leave else 1.0)
            watch.checkpoint_written()
    assert "time" in leave and decision.checkpoint
    assert 2000.0 - 6.0 * (unit + checkpoint) - 6.0 < clock.now < 2000.0


@pytest.mark.parametrize("number", Watch.SIGNALS)
def test_a_signal(number):
    watch = Watch(World(), 1000.0)
    assert watch.decide().leave == ""
    for _ in range(1 if number == signal.SIGINT else 3):  # Slurm may say it more than once
        os.kill(os.getpid(), number)
    time.sleep(0.01)
    while not (decision := watch.decide()).leave:
        pass
    assert decision.checkpoint and "signal" in decision.leave


def test_a_second_interrupt_ends_the_program_at_once():
    Watch(World(), 1000.0)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_ranks_talk_at_the_first_unit_of_another_kind(clock):
    """Quick gradient steps must not keep a signal waiting for as many slow samples."""
    watch = Watch(World(), 1e9)
    for _ in range(5000):
        clock.now += 1e-3
        watch.decide("train")
    talked = []
    for _ in range(5):
        clock.now += 5.0
        talked.append(watch.decide("sample").talked)
    assert talked == [True] * 5


def test_the_root_alone_asks_for_a_look(clock):
    watch = Watch(World(), 1e9)
    clock.now += 2.0
    assert watch.decide(look=True).look
    clock.now += 2.0
    assert not watch.decide().look
