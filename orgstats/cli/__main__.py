"""`python -m orgstats.cli`: the command without its script."""

from orgstats.cli import main

main()
