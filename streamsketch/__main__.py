"""`python -m streamsketch`."""

from streamsketch.cli import main

if __name__ == "__main__":
    main()
