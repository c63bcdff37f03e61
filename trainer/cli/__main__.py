"""python -m trainer.cli: the same as the command defectd-train."""

from trainer.cli import main

if __name__ == "__main__":
    main()
