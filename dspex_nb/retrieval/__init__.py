"""Finding passages: indexes behind one protocol, joining and reordering what they find, and answers that cite it."""

from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import Index, Retriever
from dspex_nb.retrieval.documents import passages_of
from dspex_nb.retrieval.filters import read_filter
from dspex_nb.retrieval.merging import MERGES, merge
from dspex_nb.retrieval.registry import KINDS, kind_of, options_of, retriever, table
from dspex_nb.retrieval.reranking import METHODS, rerank
from dspex_nb.retrieval.responding import FORMATS, Citation, Report, respond

__all__ = [
    "FORMATS",
    "KINDS",
    "MERGES",
    "METHODS",
    "Citation",
    "Index",
    "Passage",
    "Report",
    "Retriever",
    "kind_of",
    "merge",
    "options_of",
    "passages_of",
    "read_filter",
    "rerank",
    "respond",
    "retriever",
    "table",
]
