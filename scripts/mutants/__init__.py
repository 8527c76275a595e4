"""Mutants: general faults applied mechanically to our own code, one at a time, and the tests that catch each."""
