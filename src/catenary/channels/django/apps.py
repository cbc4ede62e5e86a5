"""The application as Django knows it."""

from django.apps import AppConfig
from django.core.checks import register

from catenary.channels.django.checks import check_configuration


class CatenaryConfig(AppConfig):
    """Without models: it brings settings that are checked, commands, and tags for templates."""

    name = "catenary.channels.django"
    label = "catenary"
    verbose_name = "Catenary"

    def ready(self) -> None:
        register(check_configuration)
