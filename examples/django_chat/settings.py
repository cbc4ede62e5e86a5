"""Settings for development on one machine, not for production."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parent
DEBUG = True
SECRET_KEY = os.environ.get("SECRET_KEY", "public, for development only")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "catenary.channels.django",
    "chat",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "chat.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "chat.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
LOGIN_URL = "enter"

# turbo.js, installed by npm
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "node_modules/@hotwired/turbo-rails/app/assets/javascripts"]

CATENARY = {
    "CABLE": "chat.cable:cable",
    # Used by other processes than the server: a shell, a job.
    "PUBLISHER": os.environ.get("ANYCABLE_HTTP_BROADCAST_URL", "http://localhost:8080/_broadcast"),
    "OPTIONS": {
        "broadcast_adapter": "http",
        "broker": "memory",
        "presence_ttl": 5,
        "turbo_streams": True,
    },
}
