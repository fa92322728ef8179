"""The command, as `unetdiff` and as `python -m unetdiff`. It says nothing of Python, whatever happens to its streams or before all is imported."""
import os
import signal
import sys
from contextlib import suppress


def leave(number, frame):
    "End at once, with one line."
    with suppress(OSError): os.write(2, b"\n"*os.isatty(2) + b"unetdiff: ended by Ctrl-C\n")
    os._exit(128 + number)

def open_streams():
    "Let what is said go nowhere where a stream is missing, and give its number to no other file."
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None: setattr(sys, name, open(os.devnull, mode))

def let_go_of_streams():
    "Let what nobody reads go nowhere, so that Python has nothing to complain of when it ends."
    for stream in (sys.stdout, sys.stderr):
        try: stream.flush()
        except OSError: os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

def start():
    "Run the command."
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler: signal.signal(signal.SIGINT, leave) # else it is not wanted: in the background
    open_streams()
    try:
        from unetdiff.cli import command
        command()
    finally: let_go_of_streams()


if __name__ == "__main__": start()
