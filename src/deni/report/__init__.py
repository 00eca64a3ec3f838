"""A study's store as one page, and its numbers as Markdown, LaTeX and CSV tables."""

from deni.report.write import write_report

__all__ = ["write_report"]
