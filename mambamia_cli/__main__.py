"""`python -m mambamia_cli` and the console script."""

import sys


def main() -> int:
    try:
        from mambamia_cli.cli.app import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:  # before run() had taken the signals over, or after
        print("mambamia: error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
