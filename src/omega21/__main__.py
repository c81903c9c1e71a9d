"""`python -m omega21`: the command line, where its script is not on the path."""

from omega21.cli.app import main

if __name__ == "__main__":
    main()
