"""The settings of the project of these tests; ``PROJECT_DATABASE`` is the path of its database."""

import os

SECRET_KEY = "a key of tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.channels.django.project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "catenary.channels.django",
    "tests.channels.django.project",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("PROJECT_DATABASE", ""),
    }
}
# Tables without the history of their migrations.
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CATENARY = {
    "CABLE": "tests.channels.django.project.cable:cable",
    "IDENTIFIERS": "tests.channels.django.project.cable.identifiers",
    "OPTIONS": {"broker": "memory", "turbo_streams": True, "broadcast_adapter": ["http"]},
}
