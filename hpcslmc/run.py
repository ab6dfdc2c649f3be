"""``python -m hpcslmc.run``: the command of the package."""

import sys

from hpcslmc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
