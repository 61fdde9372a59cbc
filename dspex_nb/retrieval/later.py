"""`LaterFacts`: a collection whose new rows get their facts for filters at the first search that has one, as most never have."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import Collection
from dspex_nb.retrieval.filters import Condition


class LaterFacts(Collection):
    """Base of such collections.

    Attributes:
        complete: Whether all rows are known to have their facts.
    """

    complete = False

    @abstractmethod
    def _write_bare(self, rows: Block) -> None:
        """Store rows without facts, replacing those with the same id."""

    @abstractmethod
    def _take_up_facts(self) -> None:
        """Give facts to the rows that have none."""

    def _write(self, rows: Block) -> None:
        self.complete = False  # first: one that breaks off may have written some
        self._write_bare(rows)

    def _where(self, condition: Condition) -> Any:
        if not self.complete:
            self._take_up_facts()
            self.complete = True
        return super()._where(condition)
