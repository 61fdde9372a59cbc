"""Pools on real local clusters: Dask and Ray, several worker processes each."""

from __future__ import annotations

from typing import ClassVar

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
    for attempt in range(3):  # on a busy machine Ray's own agents miss the 15 s they are given
        try:
            ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            break
        except Exception:
            ray.shutdown()
            if attempt == 2:
                raise
    yield ray
    ray.shutdown()


class ClusterSuite(PoolSuite):
    clears_files = True

    def taking(self, *variables):
        return {"variables": variables}

    def make_pool(self, size, **options):
        return Pools().create("suite", size, self.backend, **self.options, **options)


class TestDask(ClusterSuite):
    backend = "dask"
    gives_devices = False
    gives_devices_why = "slots start where there is the resource `GPU`, which Dask does not hold for an actor's life; who starts a worker says what it sees"
    partly: ClassVar = {"test_a_higher_priority_goes_first": "in the pool's own queue; Dask's priorities are not used"}

    @pytest.fixture(autouse=True)
    def _cluster(self, dask_cluster):
        type(self).options = {"address": dask_cluster.scheduler_address}


class TestRay(ClusterSuite):
    backend = "ray"
    gives_devices = False
    gives_devices_why = "GPUs are asked for as `num_gpus`, and Ray says what a slot sees; not run here, for want of GPUs"
    partly: ClassVar = {"test_a_higher_priority_goes_first": "in the pool's own queue; Ray has no priorities"}

    @pytest.fixture(autouse=True)
    def _cluster(self, ray_cluster):
        type(self).options = {"address": "auto"}
