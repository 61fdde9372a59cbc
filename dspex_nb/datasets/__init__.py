"""Rows from whatever a user holds, and the small data sets the tutorials use."""

from dspex_nb.datasets.rows import rows_of
from dspex_nb.datasets.support import support_messages
from dspex_nb.datasets.topics import python_topics

__all__ = ["python_topics", "rows_of", "support_messages"]
