"""manage.py check: what is wrong with the settings, each by its key."""

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


def test_nothing_is_wrong_with_the_project_nor_with_no_settings_at_all() -> None:
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
def test_what_is_wrong_is_named(changes: dict[str, object], expected: str) -> None:
    (only,) = found(**changes)
    assert only.startswith(expected)
    assert "x:y" not in only


def test_settings_that_are_no_dict() -> None:
    with override_settings(CATENARY="cable"), pytest.raises(ImproperlyConfigured, match="CATENARY"):
        configuration()
