"""One real Kubernetes node on this machine, for the tests: `make cluster-up`, `cluster-status` and `cluster-down`."""
