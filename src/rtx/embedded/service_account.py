"""Which account a server runs under when we are root, because PostgreSQL refuses to run as root.

Containers and rented machines often have root and nothing else. There the server runs as `postgres` if that account
exists, else as `nobody`: no account is made and no directory above the data is opened to others. Where the account
cannot reach the program or the data (a clone under /root, say), the server also gets the one capability that lets it.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

CANDIDATES = ("postgres", "nobody")


class ServiceAccountError(RuntimeError):
    """No account was found that the server could run under; the message says what helps."""


@dataclass(frozen=True)
class ServiceAccount:
    """How to start a process under another account; all empty means: as we are.

    Args:
        name: the account's name, for messages.
        user_id: its numeric id, or None for our own.
        group_id: the id of its group, or None for our own.
        command_prefix: the words to put before a command that must be able to pass closed directories.
    """

    name: str = ""
    user_id: int | None = None
    group_id: int | None = None
    command_prefix: tuple[str, ...] = ()

    @property
    def switches(self) -> bool:
        """Whether this is another account than our own."""
        return self.user_id is not None

    def start(
        self,
        command: Sequence[str | Path],
        *,
        directory: Path,
        environment: dict[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.STDOUT,
    ) -> "subprocess.Popen[bytes]":
        """Starts `command` in a session of its own, so that the terminal's Ctrl-C reaches the parent only."""
        changes_in_child = self.switches and not self.command_prefix
        return subprocess.Popen(
            [*self.command_prefix, *command],
            cwd=directory,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            umask=0o077,
            user=self.user_id if changes_in_child else None,
            group=self.group_id if changes_in_child else None,
            extra_groups=[] if changes_in_child else None,
        )

    def own(self, path: Path) -> None:
        """Gives `path` itself, not what is in it, to the account."""
        if self.user_id is not None and self.group_id is not None:
            os.chown(path, self.user_id, self.group_id)


def choose_service_account(*, owner_of: Path, enters: Path, runs: Sequence[str | Path]) -> ServiceAccount:
    """Chooses the account for a server whose data are in `owner_of` (once they exist).

    Args:
        owner_of: the server's data; when they exist already and are not root's, their owner is chosen.
        enters: a directory that the account must be able to enter.
        runs: a command that must succeed under the account.

    Raises:
        ServiceAccountError: root may not change to any account here, or none can reach what it needs.
    """
    if os.geteuid() != 0:
        return ServiceAccount()
    entry = _owner(owner_of) or _first_candidate()
    account = ServiceAccount(name=entry.pw_name, user_id=entry.pw_uid, group_id=entry.pw_gid)
    if _suits(account, enters, runs):
        return account
    setpriv = shutil.which("setpriv")
    if setpriv is not None:
        privileged = replace(account, command_prefix=(setpriv, *_privileges(entry)))
        if _suits(privileged, enters, runs):
            return privileged
    raise ServiceAccountError(
        f"PostgreSQL does not run as root, and the account {entry.pw_name!r} cannot reach {enters} and {runs[0]}: "
        "run as an ordinary user, or keep the project and its data where others may enter"
    )


def _privileges(entry: pwd.struct_passwd) -> tuple[str, ...]:
    """The options with which setpriv changes the account but keeps the capability to pass closed directories."""
    return (
        f"--reuid={entry.pw_uid}",
        f"--regid={entry.pw_gid}",
        "--clear-groups",
        # Otherwise access(2), with which PostgreSQL looks at its own programs, would not count the capability.
        "--securebits=+no_setuid_fixup",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--",
    )


def _owner(path: Path) -> pwd.struct_passwd | None:
    if not path.exists() or path.stat().st_uid == 0:
        return None
    try:
        return pwd.getpwuid(path.stat().st_uid)
    except KeyError as error:
        raise ServiceAccountError(
            f"{path} belongs to user id {path.stat().st_uid}, which has no account here: run as that user, or give the "
            "directory to one that exists (chown -R)"
        ) from error


def _first_candidate() -> pwd.struct_passwd:
    for name in CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceAccountError(
        f"PostgreSQL does not run as root, and there is no account {' or '.join(CANDIDATES)}: run as an ordinary user"
    )


def _suits(account: ServiceAccount, enters: Path, runs: Sequence[str | Path]) -> bool:
    script = 'test -x "$1" && shift && exec "$@"'
    try:
        probe = account.start(["/bin/sh", "-c", script, "probe", enters, *runs], directory=Path("/"), environment={})
    except (OSError, subprocess.SubprocessError):
        return False
    return probe.wait() == 0
