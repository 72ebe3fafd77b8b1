"""The journal: its format to the byte, its verdicts, and that nothing told as committed is ever lost."""
