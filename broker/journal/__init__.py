"""The journal's life around its compiled parts: recovery into a ledger, snapshots beside the running log, what was known outside of it.

    store        one broker's log: opened, recovered, begun, committed by a thread, closed
    recovery     which snapshot, then the log behind it, into a ledger; by the start and by compaction alike
    compaction   the newest snapshot and the log up to a position become the next snapshot
    state        what must be there again at the next start, so that a restored backup is noticed
    settings     sizes and places

Recovery is snapshot and log, and compaction is recovery and a dump: there is one thing to prove. Nothing here is on the way of an answer.
"""
