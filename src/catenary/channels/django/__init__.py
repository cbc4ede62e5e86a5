"""Catenary in a Django project: ``INSTALLED_APPS = [..., "catenary.channels.django"]``.

``cable`` has the arguments of a project's cable, ``connection`` sessions and users, ``turbo`` Turbo
Streams of models, ``configuration`` the settings. Other rooms import ``starting`` only.
"""

from catenary.errors import MissingExtra

try:
    import django as django
except ImportError as error:
    raise MissingExtra("catenary.channels.django", "django") from error
