"""A forecast as a page."""

from deni.report.forecast.page import build_page, check_page, write_page

__all__ = ["build_page", "check_page", "write_page"]
