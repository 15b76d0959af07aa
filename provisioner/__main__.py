"""``python -m provisioner``: the same command as ``provision``."""

from provisioner.cli import main

if __name__ == "__main__":
    main()
