"""The whole cluster in one process, on a simulated clock, network and database, from one seed."""
