"""``symptune`` and ``python -m symptune``: the command line."""

import sys


def main() -> int:
    """Run the command line; returns its exit code, 2 also where a module hides one of symptune's packages."""
    try:
        from symptune import __version__  # noqa: F401
    except ImportError as error:
        if not str(error).startswith("symptune: "):
            raise
        print(f"symptune: error: {str(error).removeprefix('symptune: ')}", file=sys.stderr)
        return 2
    from tune_jobs.cli import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
