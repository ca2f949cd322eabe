"""Millions of random commands against the reference exchange.

``python -m tests.property.soak --commands 2000000 --seed 1`` exits with 1 when the two exchanges
disagree, and prints the fewest commands that show it.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.property.episodes import Coverage, EpisodeError, run_episode


def main() -> int:
    """Run episodes until the commands are used up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=2_000_000, help="how many commands in all")
    parser.add_argument("--seed", type=int, default=1, help="seed of the whole run")
    parser.add_argument("--episode", type=int, default=2_000, help="commands in one world before a fresh one begins")
    parser.add_argument(
        "--thorough-every", type=int, default=20, help="compare everything after every so many commands"
    )
    arguments = parser.parse_args()
    coverage = Coverage()
    started = shown = time.monotonic()
    done = 0
    while done < arguments.commands:
        count = min(arguments.episode, arguments.commands - done)
        try:
            run_episode(f"{arguments.seed}:{done // arguments.episode}", count, coverage, arguments.thorough_every)
        except EpisodeError as error:
            print(f"\nDIFFERENCE in a run with --seed {arguments.seed} --episode {arguments.episode}\n{error}")
            return 1
        done += count
        now = time.monotonic()
        if now - shown >= 5 or done == arguments.commands:
            shown = now
            print(f"{done:>12,} commands  {coverage.outcomes['trade']:>12,} trades  {done / (now - started):>9,.0f}/s")
            sys.stdout.flush()
    for title, counts in (
        ("commands", coverage.commands),
        ("refusals", coverage.reasons),
        ("outcomes", coverage.outcomes),
    ):
        print(f"\n{title}")
        for key, count in sorted(counts.items(), key=lambda item: str(item[0])):
            print(f"  {count:>10,}  {getattr(key, 'name', key)}")
    print("\nno difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
