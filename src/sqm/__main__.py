"""`python -m sqm`."""

from sqm.cli import main

main()
