"""Pools on real local clusters: Dask and Ray, several worker processes each."""

from __future__ import annotations

import pytest

from dspex_nb.pools import Pools
from dspex_nb.testing.pool_suite import PoolSuite

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def dask_cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


class TestDask(PoolSuite):
    @pytest.fixture(autouse=True)
    def _cluster(self, dask_cluster):
        self.address = dask_cluster.scheduler_address

    def make_pool(self, size, **options):
        return Pools().create("suite", size, "dask", address=self.address, **options)


class TestRay(PoolSuite):
    @pytest.fixture(autouse=True)
    def _cluster(self, ray_cluster):
        pass

    def make_pool(self, size, **options):
        return Pools().create("suite", size, "ray", **options)
