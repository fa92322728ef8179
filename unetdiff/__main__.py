"""The command, as `python -m unetdiff`."""
import sys

from unetdiff.cli import main

if __name__ == "__main__":
    sys.argv[0] = "unetdiff" # its name in the help
    main()
