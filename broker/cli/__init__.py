"""The command line: `usher`. One noun a file, loaded when it is used.

Start at `main.py` (entry and exit codes) and `commands.py` (the table of commands). What commands print:
`output.py`. How they find and reach a broker: `connection.py`.
"""
