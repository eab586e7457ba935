"""`python -m ampstore` is the `ampstore` command."""

from ampstore.cli import main

if __name__ == "__main__":
    main()
