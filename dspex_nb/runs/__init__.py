"""What runs: the scheduler, maps, evaluations and studies."""
