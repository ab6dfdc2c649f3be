"""The command line: run, validate, status, report, merge."""
