"""Progress of a study: a bar on a terminal, occasional lines in a file."""

from __future__ import annotations

import time
from typing import TextIO

from deni.progress import ProgressBar, clock
from deni.study.execution.driver import News
from deni.study.execution.job import Job


class Progress:
    """Counts cells by what became of them; the time left follows from the member-steps that are done.

    Args:
        jobs: the cells to train.
        done: how many of the study were done before.
        shown: whether to show anything.
        file: where to, standard error unless told.
    """

    def __init__(self, jobs: list[Job], done: int = 0, shown: bool = True, file: TextIO | None = None) -> None:
        self.total, self.done, self.failed, self.running = len(jobs) + done, done, 0, 0
        self._left = sum(each.member_steps for each in jobs)
        self._trained = 0
        self._began = time.monotonic()
        self._bar = ProgressBar("study", self._left, unit="member-steps", shown=shown, file=file)

    def tell(self, news: News) -> None:
        """Take in a message of the driver."""
        count = len(news.jobs)
        if news.what == "begun":
            self.running += count
        elif news.what == "again":
            self.running -= count
        else:
            self.running -= count
            self.done += count * (news.what == "done")
            self.failed += count * (news.what == "failed")
            self._trained += sum(each.member_steps for each in news.jobs)
        self._show(news)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()

    def line(self) -> str:
        """Done, running, failed, time left."""
        return f"{self.done} of {self.total} done, {self.running} running, {self.failed} failed, {self._time_left()}"

    def _time_left(self) -> str:
        if not self._trained:
            return "time left unknown"
        return f"{clock(self._seconds_left())} left"

    def _seconds_left(self) -> float:
        return (time.monotonic() - self._began) / self._trained * (self._left - self._trained)

    def _show(self, news: News) -> None:
        if news.why:
            cell = news.jobs[0].cell
            what = f"{cell.strategy.name} {cell.tuning.name} {cell.dataset['name']} seed {cell.seed}"
            self._bar.say(f"{news.what}: {what}: {news.why}")
        text = f"{self.done} of {self.total} done, {self.running} running, {self.failed} failed"
        self._bar.update(self._trained, text, self._seconds_left() if self._trained else None)
