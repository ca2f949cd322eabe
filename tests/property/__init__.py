"""Random commands, against the reference exchange and against the promises that hold for every command."""
