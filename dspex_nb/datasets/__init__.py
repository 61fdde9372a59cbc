"""Rows from whatever a user holds, and the small data set the tutorials use."""

from dspex_nb.datasets.rows import rows_of
from dspex_nb.datasets.support import support_messages

__all__ = ["rows_of", "support_messages"]
