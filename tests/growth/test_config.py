"""Configuration of any length: flags, variables, files, long lists."""

import pytest

from catenary.config.effective import effective
from catenary.config.load import load
from catenary.config.render import toml
from tests.config.sources import options
from tests.growth.measure import Case, Work, assert_near_linear


def loading(*argv: str, environ: dict[str, str] | None = None, file: str = "") -> Work:
    files = {"./anycable.toml": file}
    return lambda: load(argv, environ or {}, files.get)


def a_flag_that_is_repeated(size: int) -> Work:
    return loading(*(f"--port={8000 + number % 1000}" for number in range(size)))


def many_variables_of_others(size: int) -> Work:
    return loading(environ={f"ANYCABLE_OF_MINE_{number}": "x" for number in range(size)})


def many_origins_in_a_flag(size: int) -> Work:
    return loading("--allowed_origins=" + ",".join(f"a{n}.test" for n in range(size)))


def many_origins_in_a_file(size: int) -> Work:
    origins = ", ".join(f'"https://a{n}.test"' for n in range(size))
    return loading(file=f"[server]\nallowed_origins = [{origins}]")


def many_paths(size: int) -> Work:
    return loading("--path=" + ",".join(f"/cable/{n}" for n in range(size)))


def many_tags(size: int) -> Work:
    tags = "\n".join(f'name{n} = "value"' for n in range(size))
    return loading(file=f"[metrics.tags]\n{tags}")


def many_addresses_of_nats(size: int) -> Work:
    servers = ",".join(f"nats://user:pass@host{n}:4222" for n in range(size))
    return loading("--broker=nats", f"--nats_servers={servers}")


def many_sentinels(size: int) -> Work:
    sentinels = ",".join(f":password@host{n}:26379" for n in range(size))
    return loading("--broker=redis", "--redis_url=redis://main", f"--redis_sentinels={sentinels}")


def a_long_text(size: int) -> Work:
    return loading("--secret=" + "x" * (100 * size))


def what_many_origins_imply(size: int) -> Work:
    given = options("--allowed_origins=" + ",".join(f"a{n}.test" for n in range(size)))
    return lambda: effective(given)


def many_origins_printed(size: int) -> Work:
    given = options("--allowed_origins=" + ",".join(f"a{n}.test" for n in range(size)))
    return lambda: toml(given)


@pytest.mark.parametrize(
    "case",
    [
        a_flag_that_is_repeated,
        many_variables_of_others,
        many_origins_in_a_flag,
        many_origins_in_a_file,
        many_paths,
        many_tags,
        many_addresses_of_nats,
        many_sentinels,
        a_long_text,
        what_many_origins_imply,
        many_origins_printed,
    ],
)
def test_work_on_configuration_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
