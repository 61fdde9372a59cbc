"""For the tests of those who build on dspex_nb: a scripted language model, a shell that runs cells, and suites for their parts.

`client_suite.ClientSuite`, `cache_suite.CacheSuite`, `pool_suite.PoolSuite`, `retriever_suite.RetrieverSuite` and
`vector_suite.VectorRetrieverSuite` are test classes to subclass; import them from their modules, so that pytest collects them
only where they are given something to test.
"""

from dspex_nb.testing.scripted import ScriptedLM
from dspex_nb.testing.shell import TestingShell

__all__ = ["ScriptedLM", "TestingShell"]
