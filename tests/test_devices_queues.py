"""One queue a device: beside each other, in order within, and nothing lost when one task fails."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from fidelity.devices.queues import Task, in_queues


def test_results_come_in_the_order_of_the_tasks() -> None:
    tasks = [Task(queue, partial(str, place)) for place, queue in enumerate("abcabcaab")]
    assert in_queues(tasks) == [str(place) for place in range(9)]
    assert in_queues([]) == []


def test_two_queues_run_beside_each_other_and_one_queue_does_not() -> None:
    both = threading.Barrier(2, timeout=10)  # broken unless two tasks wait at once
    in_queues([Task("one", both.wait), Task("other", both.wait)])
    alone = threading.Barrier(2, timeout=0.2)
    with pytest.raises(threading.BrokenBarrierError):
        in_queues([Task("one", alone.wait), Task("one", alone.wait)])


def test_within_a_queue_tasks_keep_their_order() -> None:
    seen: list[tuple[str, int]] = []
    in_queues([Task(queue, partial(seen.append, (queue, place))) for place in range(50) for queue in "ab"])
    for queue in "ab":
        assert [place for name, place in seen if name == queue] == list(range(50))


def test_a_task_that_raises_stops_no_other_and_is_raised_at_the_end() -> None:
    done: list[str] = []

    def fail() -> None:
        raise RuntimeError("first")

    tasks = [Task("a", fail), Task("a", partial(done.append, "after it")), Task("b", partial(done.append, "beside it"))]
    with pytest.raises(RuntimeError, match="first"):
        in_queues(tasks)
    assert sorted(done) == ["after it", "beside it"]
