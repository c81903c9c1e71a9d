"""`python -m omega21`: the command line, for when its script is not on PATH."""

from omega21.cli.app import main

if __name__ == "__main__":
    main()
