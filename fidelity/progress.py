"""How far a long run is: a bar on a terminal, plain lines anywhere else, always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Step = Callable[[str], None]
"""Called once at the start of each step with its name."""


class Reporter:
    """Tells stages and their steps; keeps the seconds of each stage for the report."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self.seconds: dict[str, float] = {}

    def say(self, line: str) -> None:
        """One line for a person, on stderr."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, steps: int) -> Iterator[Step]:
        """A stage of a known number of steps, timed under its title."""
        started = time.monotonic()
        try:
            if self._console.is_terminal:
                yield from self._bar(title, steps)
            else:
                yield from self._lines(title, steps)
        finally:
            self.seconds[title] = round(time.monotonic() - started, 3)

    def _bar(self, title: str, steps: int) -> Iterator[Step]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("{task.fields[step]}"), console=self._console) as bar:
            task = bar.add_task(title, total=steps, step="")
            begun = 0

            def step(name: str) -> None:
                nonlocal begun
                bar.update(task, completed=min(begun, steps), step=name)
                begun += 1

            yield step
            bar.update(task, completed=steps, step="")

    def _lines(self, title: str, steps: int) -> Iterator[Step]:
        started, told = time.monotonic(), 0.0
        self.say(f"{title} ...")
        begun = 0

        def step(name: str) -> None:
            nonlocal begun, told
            begun += 1
            now = time.monotonic() - started
            if now - told >= 10:
                told = now
                self.say(f"  {title}: {name} ({begun}/{steps}, {now:.0f} s)")

        yield step
        self.say(f"{title}: done in {time.monotonic() - started:.1f} s")


def quiet() -> Reporter:
    """Tells nothing: for callers that are programs."""
    return Reporter(Console(quiet=True, stderr=True))
