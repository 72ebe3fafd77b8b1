"""Crash tests on the real process: kill -9 anywhere, disks that fail, and an auditor that only knows what clients were answered."""
