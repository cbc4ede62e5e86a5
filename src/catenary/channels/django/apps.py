"""The Django application."""

from django.apps import AppConfig
from django.core.checks import register

from catenary.channels.django.checks import check_configuration


class CatenaryConfig(AppConfig):
    """System checks, a management command and template tags; no models."""

    name = "catenary.channels.django"
    label = "catenary"
    verbose_name = "Catenary"

    def ready(self) -> None:
        register(check_configuration)
