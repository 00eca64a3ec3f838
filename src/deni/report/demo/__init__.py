"""How the result of `deni demo` is shown: in a terminal, and as a page."""

from deni.report.demo.page import check_page, write_page
from deni.report.demo.terminal import dot_plot, table

__all__ = ["check_page", "dot_plot", "table", "write_page"]
