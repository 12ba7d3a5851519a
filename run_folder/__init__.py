"""The folder of a run: what is in it, by name, and what its ledger says."""
