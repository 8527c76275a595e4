"""The supervisor: the process that `hsframework run` starts, which keeps the dispatcher and the keepers alive."""
