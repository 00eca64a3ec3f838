"""How far a study is: a bar on a terminal, in a file a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm

from deni.study.execution.driver import News
from deni.study.execution.job import Job


class Progress:
    """Counts cells by what became of them; the time left follows from the member-steps that are done.

    Args:
        jobs: the cells to train.
        done: how many of the study were done before.
        shown: whether to show anything.
        file: where to, standard error unless told; a bar if it is a terminal.
    """

    def __init__(self, jobs: list[Job], done: int = 0, shown: bool = True, file: TextIO | None = None) -> None:
        file = file or sys.stderr
        self.total, self.done, self.failed, self.running = len(jobs) + done, done, 0, 0
        self._left = sum(each.member_steps for each in jobs)
        self._trained = 0
        self._began = time.monotonic()
        self._said = 0.0
        self._file = file if shown else None
        bar = shown and file.isatty()
        self._bar = tqdm(total=self.total, initial=done, unit="cell", file=file) if bar else None

    def tell(self, news: News) -> None:
        """Take in what the driver says."""
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
        if self._bar is not None:
            self._bar.close()

    def line(self) -> str:
        """Done, running, failed, time left."""
        return f"{self.done} of {self.total} done, {self.running} running, {self.failed} failed, {self._time_left()}"

    def _time_left(self) -> str:
        if not self._trained:
            return "time left unknown"
        seconds = (time.monotonic() - self._began) / self._trained * (self._left - self._trained)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02} left"

    def _show(self, news: News) -> None:
        if self._file is None:
            return
        if news.why:
            cell = news.jobs[0].cell
            what = f"{cell.strategy.name} {cell.tuning.name} {cell.dataset['name']} seed {cell.seed}"
            tqdm.write(f"{news.what}: {what}: {news.why}", file=self._file)
        if self._bar is not None:
            self._bar.n = self.done + self.failed
            self._bar.set_postfix_str(f"{self.running} running, {self.failed} failed, {self._time_left()}")
        elif news.what != "begun" and (time.monotonic() - self._said > 1 or self.done + self.failed == self.total):
            self._said = time.monotonic()
            print(f"{time.strftime('%H:%M:%S')} {self.line()}", file=self._file, flush=True)
