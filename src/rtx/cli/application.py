"""All commands of `rtx`, their options and their help. What they do is in a module each, imported when it is called."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

application = typer.Typer(
    name="rtx",
    help="RTX, a trading engine backend: order books, a double-entry ledger, and an API that Binance clients speak.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
operator = typer.Typer(
    help="The people who run the exchange.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
application.add_typer(operator, name="operator")


def main() -> None:
    """Run the command line; the entry point of the `rtx` program."""
    application()


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@application.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of the program itself."""


@application.command(epilog="Example: rtx dev --no-demo --data /tmp/exchange --port 8090 --metrics-port 9095")
def dev(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Where everything is kept between runs.", file_okay=False)
    ] = Path(".rtx"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the API; 0: any free one.")] = 8080,
    metrics_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the metrics; 0: any free one.")] = 9090,
    demo: Annotated[bool, typer.Option("--demo/--no-demo", help="Let a small crowd of demo traders trade.")] = True,
    api_workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="API processes; as many as there are processors to spare.")
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write addresses and keys as JSON when all is up.", dir_okay=False),
    ] = None,
) -> None:
    """Run everything on this machine: PostgreSQL, Valkey, the engine, the API, and a crowd of demo traders.

    Nothing needs to be installed or set up. Ctrl-C ends it; the next run goes on with the same accounts and books.
    """
    from rtx.cli.dev.command import DevOptions, run_dev

    raise typer.Exit(
        run_dev(
            DevOptions(
                data=data,
                port=port,
                metrics_port=metrics_port,
                demo=demo,
                api_workers=api_workers,
                ready_file=ready_file,
            )
        )
    )


@application.command(epilog="Example: DATABASE_URL=... REDIS_URL=... JWT_SECRET=... rtx serve")
def serve(
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for the database at the start.")
    ] = 60.0,
    state_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write ports and process ids as JSON.", dir_okay=False),
    ] = None,
) -> None:
    """Run the backend on the servers that the environment names: an engine, API workers and metrics.

    Needs DATABASE_URL, REDIS_URL and JWT_SECRET. Also read: RTX_HOST, RTX_PORT (8080), RTX_METRICS_PORT (9090),
    RTX_API_WORKERS, RTX_TRUSTED_PROXIES, RTX_COLOUR, SENTRY_DSN, LOG_LEVEL and others. SIGTERM ends it in order.
    """
    from rtx.cli.serve import run_serve

    raise typer.Exit(run_serve(wait_s, state_file))


@application.command(epilog="Example: DATABASE_URL=postgresql://rtx:...@db:5432/rtx rtx migrate --status")
def migrate(
    status: Annotated[bool, typer.Option("--status", help="Say where the database stands and change nothing.")] = False,
    down: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Go back to this revision ('base': remove everything).")
    ] = None,
) -> None:
    """Bring the schema of the database that DATABASE_URL names to what this version expects."""
    from rtx.cli.migrate import run_migrate

    raise typer.Exit(run_migrate(status=status, down=down))


@application.command(
    epilog="Example: DATABASE_URL=postgresql://rtx:...@db:5432/rtx rtx verify   or: rtx verify --proof proof.json"
)
def verify(
    from_snapshot: Annotated[
        bool, typer.Option("--from-snapshot", help="Execute the journal again only from the newest snapshot on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    proof: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check this proof of a trade instead ('-': from standard input)."),
    ] = None,
    public_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="The exchange's public key, which must have signed the proof; may be repeated."
        ),
    ] = None,
    against_database: Annotated[
        bool,
        typer.Option("--against-database", help="See that the journal in DATABASE_URL still has the proof's rows."),
    ] = False,
) -> None:
    """Compare everything in the database that DATABASE_URL names with what its journal says.

    The hash chain is followed from the first row and every command is executed again; orders, trades, postings,
    balances, candles, assets, markets, fees and snapshots are compared row by row. Nothing is written, and the exchange
    may trade meanwhile. The first difference ends it. The exit code is 0 when all agrees, 1 when something does not,
    and 2 when the database cannot be read.
    """
    from rtx.cli.verify import VerifyOptions, run_verify

    raise typer.Exit(
        run_verify(
            VerifyOptions(
                from_snapshot=from_snapshot,
                as_json=as_json,
                proof=proof,
                public_keys=tuple(public_key or ()),
                against_database=against_database,
            )
        )
    )


@application.command(epilog="Example: DATABASE_URL=postgresql://rtx:...@db:5432/rtx rtx status --watch")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look every second until Ctrl-C.")] = False,
) -> None:
    """Show which engine leads, which follow and how far they are, and the last handover.

    Reads the database that DATABASE_URL names, and needs no running API. The exit code is 0 when an engine leads, and 1
    when none does; then it says what to do.
    """
    from rtx.cli.status import run_status

    raise typer.Exit(run_status(as_json=as_json, watch=watch))


@application.command(epilog="Example: DATABASE_URL=postgresql://rtx:...@db:5432/rtx rtx handover --to green")
def handover(
    to: Annotated[
        str, typer.Option(metavar="COLOUR|HOLDER", help="A colour, or an engine by its name or the beginning of it.")
    ],
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, max=3_600, metavar="SECONDS", help="When to withdraw the order.")
    ] = 30.0,
) -> None:
    """Have the leading engine hand the book to another one, without losing an order.

    The successor first proves that it computes the same state. The exit code is 0 when it leads, 1 when the order was
    refused or not carried out in time: the leader goes on then. Ctrl-C withdraws an order that was not begun.
    """
    from rtx.cli.handover import run_handover

    raise typer.Exit(run_handover(to, timeout_s))


@application.command("activate-rules", epilog="Example: DATABASE_URL=... JWT_SECRET=... rtx activate-rules 2")
def activate_rules(
    rules_version: Annotated[int, typer.Argument(metavar="VERSION", min=2, help="The version of the matching rules.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also when engines run that do not know these rules and would stop.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, max=600, metavar="SECONDS", help="How long to wait for the leader.")
    ] = 10.0,
) -> None:
    """Change the rules of matching from the next journal row on, on every engine alike. There is no way back.

    Needs DATABASE_URL and JWT_SECRET, and a way to the leading engine. `rtx status` shows which rules are in force, and
    which each engine knows.
    """
    from rtx.cli.rules import run_activate_rules

    raise typer.Exit(run_activate_rules(rules_version, force=force, timeout_s=timeout_s))


@operator.command(
    "create", epilog="Example: rtx operator create --email ada@example.com   (asks for the password twice)"
)
def create_operator(
    email: Annotated[str, typer.Option(help="The e-mail address to log in with.")],
) -> None:
    """Make an operator, who may open markets and book deposits, in the database that DATABASE_URL names.

    The password comes from RTX_OPERATOR_PASSWORD, from standard input, or from a prompt; never from an option, which
    others on the machine could read.
    """
    from rtx.cli.operators import run_create_operator

    raise typer.Exit(run_create_operator(email))


@application.command("health-check", epilog="Example: rtx health-check --url http://127.0.0.1:8080")
def health_check(
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The API to ask; by default the one on RTX_PORT (8080) here.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask only whether the process answers at all.")] = False,
) -> None:
    """Ask a running backend whether it can trade; the exit code is 0 when it can. Fit for a container's probe."""
    from rtx.cli.health_check import run_health_check

    raise typer.Exit(run_health_check(url, live=live))


@application.command(
    "replay-lobster", epilog="Example: rtx replay-lobster messages.csv --opening book.csv --symbol AAPLUSD > books.csv"
)
def replay_lobster(
    messages: Annotated[Path, typer.Argument(metavar="MESSAGES", help="LOBSTER's messages file.")],
    opening: Annotated[
        Path, typer.Option(metavar="BOOK", help="Its order book file; only the first line is read: the opening.")
    ],
    symbol: Annotated[
        str, typer.Option(help="The market to play on; it is opened when it does not exist. Its book has to be empty.")
    ],
    api: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The backend; else one that `rtx dev` runs here, else one just for this."),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The ready file of the backend, with its operator's login.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the rows instead of standard output.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the orders in the book in the end. Nobody can cancel them then.")
    ] = False,
) -> None:
    """Play a recorded morning of an exchange through the API and print the ten best levels after each message.

    Each row is ask price, ask size, bid price, bid size, level by level, in LOBSTER's units (dollars x 10,000); the
    first row is the opening. An operator's login is needed, to open the market and to book deposits: from --ready-file,
    from RTX_OPERATOR_EMAIL and RTX_OPERATOR_PASSWORD, or from the `rtx dev` that runs on this machine.
    """
    from rtx.cli.replay_lobster import ReplayOptions, run_replay_lobster

    raise typer.Exit(
        run_replay_lobster(
            ReplayOptions(
                messages=messages,
                opening=opening,
                symbol=symbol,
                api=api,
                ready_file=ready_file,
                output=output,
                keep=keep,
            )
        )
    )


@application.command(epilog="Example: rtx version")
def version() -> None:
    """Print the version of this program and of its Python."""
    print(f"rtx {installed_version('rtx')} (Python {platform.python_version()})")
