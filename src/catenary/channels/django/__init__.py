"""Catenary in a Django project: ``INSTALLED_APPS = [..., "catenary.channels.django"]``.

``cable`` has what a project's cable is built with, ``connection`` sessions and users, ``turbo``
the streams of models, ``configuration`` the settings. Nothing here is imported by other rooms but
``starting``.
"""

from catenary.errors import MissingExtra

try:
    import django as django
except ImportError as error:
    raise MissingExtra("catenary.channels.django", "django") from error
