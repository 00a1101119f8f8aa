"""`orgstats rules example`: a rules file to begin with."""

import typer

EXAMPLE = """\
# The first rule that matches an event gives it its outcome; an event that meets none is accepted.

[[rule]]                             # crawlers, by what they call themselves
outcome = "filtered"
reason = "web-crawlers"
user_agent = ["*bot*", "*crawler*"]  # one value is enough; * is anything, and case does not matter

[[rule]]                             # somebody's laptop
outcome = "filtered"
reason = "localhost"
remote_addr = ["127.0.0.0/8", "::1"]

[[rule]]                             # one project of one organization: all conditions of a rule must hold
outcome = "rate_limited"
reason = "project-quota"
org_id = [2]
project_id = [7, 8]
"""


def print_example() -> None:
    """Print a rules file to begin with, for `rules check`, `rules test` and `rules publish`. Needs no server.

    Example: orgstats rules example > rules.toml
    """
    typer.echo(EXAMPLE, nl=False)
