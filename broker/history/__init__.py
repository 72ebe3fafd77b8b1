"""The history: what happened in a broker, in SQLite, written behind from the log and never in anybody's way.

    writer      HistoryWriter: the thread inside a broker; what `app` uses
    rebuild     the history made anew, and what of the old one is kept (carry)
    queries     what `usher history` and reports ask
    projector   log -> fold -> store, in bounded steps
    fold        the meaning: what each event changes; no I/O
    schema      tables, versions, opening

Only this package opens SQLite. It reads the log and imports nothing of the broker's but words, errors and the log's reader.
"""
