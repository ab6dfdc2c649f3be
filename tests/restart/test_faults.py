"""A short campaign of faults; tools/validate/faults.py runs the long one."""

import subprocess
import sys
from pathlib import Path

COUNTS = {"kills": 1, "single": 1, "full": 1, "damaged": 20, "elastic": 1}


def test_no_fault_changes_a_run_or_loses_it():
    tool = Path(__file__).parents[2] / "tools/validate/faults.py"
    words = [word for name, number in COUNTS.items() for word in (f"--{name}", str(number))]
    result = subprocess.run([sys.executable, str(tool), *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "\n0 problems; " in result.stdout
    rows = [row.split("│") for row in result.stdout.splitlines() if row.startswith("│")]
    rows = [row for row in rows if row[1].strip() and int(row[2]) > 0]
    assert len(rows) == len(COUNTS)
    assert sum(int(row[2]) for row in rows) >= sum(COUNTS.values())
    assert all(int(row[5]) >= 1 for row in rows)
