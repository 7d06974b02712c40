"""`python -m mambamia_cli` and the console script."""

import sys


def main() -> int:
    from mambamia_cli.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
