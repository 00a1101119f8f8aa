"""`python -m deploy.cli`: the command without its script."""

from deploy.cli.main import main

main()
