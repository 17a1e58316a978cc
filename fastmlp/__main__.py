"""python -m fastmlp: the command line."""
import sys

from fastmlp._tools.cli import main

if __name__ == "__main__":
    sys.exit(main())
