"""python -m edge.cli: the same as the command defectd."""

from edge.cli import main

if __name__ == "__main__":
    main()
