"""`python -m mambamia_cli` and the console script."""

import sys


def main() -> int:
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


if __name__ == "__main__":
    sys.exit(main())
