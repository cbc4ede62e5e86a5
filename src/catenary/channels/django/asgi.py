"""The project as an ASGI application, for ``manage.py catenary --asgi`` in projects without their own.

With DEBUG it has static files, too, as ``manage.py runserver`` does.
"""

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler

application: ASGIHandler = get_asgi_application()
if settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
    application = ASGIStaticFilesHandler(application)
