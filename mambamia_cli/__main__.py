"""`python -m mambamia_cli` and the console script."""

import atexit
import os
import sys


def main() -> int:
    for name in ("stdout", "stderr"):  # None where the caller closed it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (for as long as the process lives)
    try:
        from mambamia_cli.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before run() had taken the signals over, or after
        print("mambamia: error: interrupted", file=sys.stderr)
        code = 130
    # CPython notes when an interrupt passes through source text that is executed, as dataclasses and torch do while they
    # are imported, and at exit kills the process with SIGINT although the interrupt was handled. This takes the note back.
    exec("")  # noqa: S102
    return code


def console() -> None:
    """The console script: `main`, and out. Python would take half a second more to take torch's modules apart one by one, which
    the system does at once."""
    code = main()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # where they led is gone: `run` has said so, if there was something to say
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    console()
