from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.channels.django.project.models import Message


def enter(request: HttpRequest, name: str) -> HttpResponse:
    login(request, User.objects.get(username=name))
    request.session["note"] = f"of {name}"
    return HttpResponse()


def say(request: HttpRequest, text: str) -> HttpResponse:
    Message.objects.create(room_id=1, text=text)
    return HttpResponse()


urlpatterns = [path("enter/<name>", enter), path("say/<text>", say)]
