"""Work on several devices at once: one queue a device, so that two phones take the time of the slower one.

This machine's CPU and GPU are one queue: they share cores, memory and heat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Task(Generic[Result]):
    """One piece of work and the queue that it belongs to."""

    queue: str
    work: Callable[[], Result]


def in_queues(tasks: Sequence[Task[Result]]) -> list[Result]:
    """The results, in the order of the tasks.

    Tasks of one queue are done one after the other, in order; queues run beside each other. A task that
    raises does not stop the others; the first error, in the order of the tasks, is raised at the end.
    """
    queues = {name: [place for place, task in enumerate(tasks) if task.queue == name] for name in _names(tasks)}
    done: list[Future[Result]] = [Future() for _ in tasks]

    def work_through(places: list[int]) -> None:
        for place in places:
            try:
                done[place].set_result(tasks[place].work())
            except BaseException as error:
                done[place].set_exception(error)

    with ThreadPoolExecutor(max_workers=max(1, len(queues))) as pool:
        list(pool.map(work_through, queues.values()))
    return [future.result() for future in done]


def _names(tasks: Sequence[Task[Result]]) -> list[str]:
    return list(dict.fromkeys(task.queue for task in tasks))
