"""The job file: its keys, the rules across them, and the sentences that refuse a bad one."""
