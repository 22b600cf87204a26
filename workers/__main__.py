"""`python -m workers` is `jetray`."""

import sys

from workers.launcher import main

if __name__ == "__main__":
    sys.exit(main())
