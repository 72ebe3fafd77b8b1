"""The deterministic simulation: one seed is one course of a broker's life among faults, judged by who only hears its answers.

In production as it is: the ledger, the log and its committer on a simulated disk, recovery and snapshots, the keyring's logic.
Played here: time, the network, the app that holds it all together, holders who follow the rules of the client library, security
keys, and whoever pulls the plug. `world.py` puts it together; `python -m tests.sim` runs seeds.
"""
