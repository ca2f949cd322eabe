"""The leader: takes commands in one order, commits them in batches, answers after the commit."""
