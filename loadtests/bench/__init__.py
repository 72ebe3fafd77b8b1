"""What `make bench` measures: Usher beside its peers in one run, and the ledger by itself. Starts in `__main__.py`."""
