"""manage.py check: errors in the settings, by key."""

import pytest
from django.core.checks import Error, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from catenary.channels.django.configuration import configuration
from tests.channels.django.project import settings as project


def found(**changes: object) -> list[str]:
    with override_settings(CATENARY={**project.CATENARY, **changes}):
        errors = [each for each in run_checks() if isinstance(each, Error)]
        return [f"{each.id} {each.msg}" for each in errors]


def test_the_project_and_empty_settings_have_no_errors() -> None:
    assert found() == []
    with override_settings(CATENARY={}):
        assert run_checks() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"CABEL": "a:b"}, "catenary.E001 CATENARY: Object contains unknown field `CABEL`"),
        ({"URL": 7}, "catenary.E001 CATENARY: Expected `str`, got `int` - at `$.URL`"),
        ({"CABLE": "nowhere"}, "catenary.E002 CATENARY: CABLE: expected a cable as module:name"),
        ({"CABLE": "no.where:cable"}, "catenary.E002 CATENARY: CABLE: no.where:cable: no module"),
        ({"CABLE": "json:loads"}, "catenary.E002 CATENARY: CABLE: json:loads: expected a Cable"),
        ({"OPTIONS": {"borker": "memory"}}, "catenary.E003 CATENARY: OPTIONS: unknown option"),
        ({"OPTIONS": {"broker": "paper"}}, "catenary.E003 CATENARY: OPTIONS: broker"),
        ({"PUBLISHER": "ftp://x:y@z"}, "catenary.E004 CATENARY: PUBLISHER: expected the URL"),
        ({"IDENTIFIERS": "no.where"}, "catenary.E005 CATENARY: IDENTIFIERS: No module"),
        ({"IDENTIFIERS": "os.sep"}, "catenary.E005 CATENARY: IDENTIFIERS: expected the dotted"),
    ],
)
def test_errors_name_their_key(changes: dict[str, object], expected: str) -> None:
    (only,) = found(**changes)
    assert only.startswith(expected)
    assert "x:y" not in only


def test_settings_of_another_type_are_an_error() -> None:
    with override_settings(CATENARY="cable"), pytest.raises(ImproperlyConfigured, match="CATENARY"):
        configuration()
