"""What load balancers, probes and release tools ask a worker."""
