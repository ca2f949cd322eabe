"""What operators see of a running backend: log lines, metrics and reported errors."""
