"""Origins and secrets that a reload replaces, for the modules whose parts use them.

Knows: the server under construction, origins. Does not know: which part uses a value.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Final

from catenary.auth.keys import BearerKey, effective_key
from catenary.auth.origins import Origins
from catenary.auth.signatures import Signatures
from catenary.config.effective import Key, Keys, keys
from catenary.config.options import TABLE, Options
from catenary.server.build import ServerBuild
from catenary.server.reloads import Settings

SECRETS: Final = frozenset(
    row.place for row in TABLE if row.option.reloadable and row.option.secret
)
_ORIGINS: Final = frozenset(
    row.place
    for row in TABLE
    if row.option.reloadable and row.name in ("allowed_origins", "cors_hosts")
)


def origins(
    build: ServerBuild, of: Callable[[Options], Sequence[str]], *, allows_missing: bool = False
) -> Origins:
    """The origins that ``of`` reads from the options, also after a reload."""
    allowed = Origins(of(build.options), allows_missing=allows_missing)

    def prepare(new: Settings) -> Callable[[], None]:
        # The entries have been checked when the configuration was read.
        return functools.partial(allowed.replace, of(new.options))

    build.reloads.add(_ORIGINS, prepare)
    return allowed


def follow_secret(
    build: ServerBuild, of: Callable[[Options], str | None], replace: Callable[..., None]
) -> None:
    """Calls ``replace`` now and after each reload: with the secret that ``of`` reads from the options, then with those that are
    still accepted. Without a secret it is never called: a reload adds none, and removes none."""

    def prepare(new: Settings) -> Callable[[], None]:
        found = (of(each) for each in (new.options, *new.retired))
        return functools.partial(replace, *dict.fromkeys(text for text in found if text))

    if of(build.options):
        prepare(build.settings)()
        build.reloads.add(SECRETS, prepare)


def add_key(
    build: ServerBuild, of: Callable[[Keys], Key | None], phrase: str, key: BearerKey
) -> bool:
    """Lets ``key`` match the key that ``of`` names, which may be derived by the phrase, also after a reload. Returns False if
    there is none: then every request matches."""

    def text(options: Options) -> str:
        return effective_key(of(keys(options)), phrase)

    follow_secret(build, text, key.replace)
    return bool(text(build.options))


def signatures(build: ServerBuild, of: Callable[[Keys], str | None]) -> Signatures | None:
    """Signatures with the key that ``of`` names, also after a reload; None without one."""
    key = of(build.keys)
    if key is None:
        return None
    found = Signatures(key)
    follow_secret(build, lambda options: of(keys(options)), found.replace)
    return found
