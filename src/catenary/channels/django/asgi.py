"""The project as an ASGI application: the default of ``manage.py catenary --asgi``.

With DEBUG it serves static files, too, like ``manage.py runserver``.
"""

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler

application: ASGIHandler = get_asgi_application()
if settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
    application = ASGIStaticFilesHandler(application)
