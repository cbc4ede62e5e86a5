"""Pusher apps: of the flags and of the file; what is refused before the server starts."""

import pytest

from catenary.config.pusher_apps import PusherApp, PusherWebhook, pusher_apps
from catenary.config.render import toml
from tests.config.sources import options, refused

FLAGS = ("--pusher_app_id=main", "--pusher_app_key=k")
FILE = """
[[pusher.apps]]
id = "a"
key = "ka"
secret = "sa"
client_events = false
webhooks = [{ url = "https://example.com/hook", events = ["channel_occupied"] }]

[[pusher.apps]]
id = "b"
key = "kb"
secret = "sb"
stream_prefix = "b/"
max_connections = 5
"""


def test_no_app_without_options() -> None:
    assert pusher_apps(options()) == ()


def test_the_app_of_the_flags_has_the_streams_of_everybody() -> None:
    (app,) = pusher_apps(options(*FLAGS, "--pusher_secret=s"))
    assert (app.id, app.key, app.secret) == ("main", "k", "s")
    assert app.stream_of("private-x") == "private-x"
    assert app.channel_of("private-x") == "private-x"


def test_its_secret_defaults_to_the_application_s() -> None:
    assert pusher_apps(options(*FLAGS, "--secret=all"))[0].secret == "all"
    assert pusher_apps(options(*FLAGS, "--secret=all", "--pusher_secret=none"))[0].secret == ""
    assert pusher_apps(options(*FLAGS))[0].secret == ""


def test_the_apps_of_the_file_have_streams_of_their_own() -> None:
    main, a, b = pusher_apps(options(*FLAGS, file=FILE))
    assert main.id == "main"
    assert a == PusherApp(
        id="a",
        key="ka",
        secret="sa",
        stream_prefix="pusher:a:",
        client_events=False,
        webhooks=(PusherWebhook("https://example.com/hook", ("channel_occupied",)),),
    )
    assert (a.stream_of("x"), b.stream_of("x")) == ("pusher:a:x", "b/x")
    assert (a.channel_of("pusher:a:x"), a.channel_of("b/x"), b.channel_of("b/x")) == (
        "x",
        None,
        "x",
    )


def test_a_variable_has_all_apps_as_json() -> None:
    given = '[{"id": "a", "key": "ka", "secret": "sa"}]'
    (app,) = pusher_apps(options(environ={"ANYCABLE_PUSHER_APPS": given}))
    assert (app.id, app.stream_prefix) == ("a", "pusher:a:")


def test_printed_apps_load_again() -> None:
    given = options(file=FILE)
    assert options(file=toml(given)).pusher == given.pusher


def app(**fields: object) -> str:
    import json

    return json.dumps([{"id": "a", "key": "k", "secret": "hidden", **fields}])


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--pusher_app_id=a"],
            "pusher_app_id: expected pusher_app_key beside it, got pusher_app_id alone",
        ),
        (
            ["--pusher_app_key=a"],
            "pusher_app_key: expected pusher_app_id beside it, got pusher_app_key alone",
        ),
        (
            ["--pusher_secret=a"],
            "pusher_secret: expected pusher_app_id and pusher_app_key beside it, got pusher_secret"
            " alone",
        ),
        (
            ["--pusher_app_id=a/b", "--pusher_app_key=k"],
            "pusher: expected letters, digits, _, . and - in the app's id, got 'a/b'",
        ),
        (
            ["--pusher_apps=7"],
            "--pusher_apps: expected a list of tables, got a value of type str (not shown)",
        ),
        (
            ['--pusher_apps=[{"id":"a","secret":"hidden"}]'],
            "pusher.apps[1]: object missing required field `key`",
        ),
        (
            [f"--pusher_apps={app(other=1)}"],
            "pusher.apps[1]: object contains unknown field `other`",
        ),
        (
            [f"--pusher_apps={app(secret=7)}"],
            "pusher.apps[1]: expected `str`, got `int` - at `$.secret`",
        ),
        (
            [f"--pusher_apps={app(secret='')}"],
            "pusher.apps[1]: expected a secret, got an empty one",
        ),
        (
            [f"--pusher_apps={app(key='a:b')}"],
            "pusher.apps[1]: expected letters, digits, _, . and - in the app's key, got 'a:b'",
        ),
        (
            [f"--pusher_apps={app(max_connections=-1)}"],
            "pusher.apps[1]: expected 0 or more as max_connections, got -1",
        ),
        (
            [f"--pusher_apps={app(stream_prefix='a-')}"],
            "pusher.apps[1]: expected a stream_prefix with a character that no channel's name has, such as a"
            " colon, got 'a-'",
        ),
        (
            [f"--pusher_apps={app(webhooks=[{'url': 'file:///etc'}])}"],
            "pusher.apps[1]: expected http(s)://… as the url of a webhook",
        ),
        (
            [f"--pusher_apps={app(webhooks=[{'url': 'http://h', 'events': ['x']}])}"],
            "pusher.apps[1]: expected webhook events of channel_occupied, channel_vacated, member_added,"
            " member_removed, client_event, cache_miss, subscription_count, got 'x'",
        ),
        (
            [*FLAGS, f"--pusher_apps={app(id='main')}"],
            "pusher.apps[1]: expected an app id that no other app has, got that of app 'main'",
        ),
        (
            [*FLAGS, f"--pusher_apps={app()}"],
            "pusher.apps[1]: expected an app key that no other app has, got that of app 'main'",
        ),
        (
            [*FLAGS, f"--pusher_apps={app(key='k2', stream_prefix='')}"],
            "pusher.apps[1]: expected a stream_prefix apart from those of other apps, got '' beside ''",
        ),
    ],
)
def test_wrong_apps_are_refused_without_their_secrets(argv: list[str], line: str) -> None:
    said = refused(*argv)
    assert said == line
    assert "hidden" not in said


def test_prefixes_of_two_apps_do_not_overlap() -> None:
    two = (
        '[{"id":"a","key":"ka","secret":"s","stream_prefix":"x:"},'
        '{"id":"b","key":"kb","secret":"s","stream_prefix":"x:y"}]'
    )
    assert refused(f"--pusher_apps={two}") == (
        "pusher.apps[2]: expected a stream_prefix apart from those of other apps, got 'x:y' beside 'x:'"
    )
