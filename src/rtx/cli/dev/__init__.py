"""`rtx dev`: the whole backend on one machine, from nothing but this package."""
