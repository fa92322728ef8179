"""The command, as `python -m unetdiff`."""
import sys

from unetdiff.cli import main

sys.argv[0] = "unetdiff" # its name in the help
if __name__ == "__main__": main()
