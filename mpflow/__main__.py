"""Run the command line as `python -m mpflow`."""

from mpflow.cli import main

if __name__ == "__main__":
    main()
