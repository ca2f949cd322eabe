"""The picture of `make run` in the README: drawn from what a real terminal showed."""
