"""`orgstats tokens`: who may ask."""

import time
from typing import Annotated

import typer

from orgstats.cli.operating import print_list
from orgstats.cli.orgs import directory

tokens = typer.Typer(no_args_is_help=True, help="Tokens that may read counts.")


@tokens.command("create")
def create(
    organization: Annotated[
        str | None, typer.Option("--org", help="Slug or id of the one organization it may read.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="It may read every organization.")] = False,
    ops: Annotated[
        bool, typer.Option("--ops", help="It may see the operators' page, and read no organization.")
    ] = False,
    name: Annotated[str, typer.Option(help="What it is for.", show_default=False)] = "",
    expires: Annotated[
        str | None, typer.Option(help="When it ends: +90d, or a time; default: never.", show_default=False)
    ] = None,
) -> None:
    """Make a token and print it, this once; only its hash is kept.

    Example: orgstats tokens create --org the-interstellar-jurisdiction --name grafana --expires +90d
    """
    from orgstats.query.access import OPS_SCOPE, READ_SCOPE
    from orgstats.times import format_time, parse_time

    if (organization is not None) + every + ops != 1:
        raise typer.BadParameter("give one of --org, --all and --ops")
    now = time.time()
    try:
        expires_at = None if expires is None else parse_time(expires, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from None
    if expires_at is not None and expires_at <= now:
        raise typer.BadParameter(f"{format_time(expires_at)} is over already", param_hint="--expires")
    with directory() as where:
        org_id = None if organization is None else where.organization_to_change(organization).org_id
        secret, token = where.create_token(
            org_id=org_id, name=name, expires_at=expires_at, now=now, scope=OPS_SCOPE if ops else READ_SCOPE
        )
    typer.echo(secret)
    end = "never ends" if expires_at is None else f"ends at {format_time(expires_at)}"
    typer.echo(f"Token {token.token_id} {end}. It is not shown again.", err=True)


@tokens.command("ls")
def list_tokens() -> None:
    """List all tokens, without the tokens: id, organization and its slug, scopes, state, name.

    Example: orgstats tokens ls
    """
    from orgstats.query.access import is_valid
    from orgstats.times import format_time

    now = time.time()
    rows: list[tuple[object, ...]] = []
    with directory() as where:
        found = where.tokens()
        slugs = {one.org_id: one.slug for one in where.organizations()}
    for token in found:
        ends = "never" if token.expires_at is None else format_time(token.expires_at)
        state = "revoked" if token.revoked else "valid" if is_valid(token, now) else "expired"
        org = ("all", "") if token.org_id is None else (token.org_id, slugs.get(token.org_id, "removed"))
        rows.append((token.token_id, *org, ",".join(sorted(token.scopes)), state, ends, token.name))
    print_list(("id", "org", "slug", "scopes", "state", "expires", "name"), rows)


@tokens.command("revoke")
def revoke(token_id: Annotated[str, typer.Argument(help="Its id, as `tokens ls` shows it.")]) -> None:
    """Make a token invalid; every serving process refuses it within 30 seconds.

    Example: orgstats tokens revoke 5f0c2a91
    """
    with directory() as where:
        where.revoke(token_id, time.time())
    typer.echo(f"Token {token_id} is revoked.", err=True)


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(tokens, name="tokens")
