from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from chat.models import Message, Room


def enter(request: HttpRequest) -> HttpResponse:
    """Logs in without a password, because this is an example; use Django's own views."""
    name = request.POST.get("name", "").strip()[:40]
    if not name:
        return render(request, "chat/enter.html")
    user, _ = get_user_model().objects.get_or_create(username=name)
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    return redirect("rooms")


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    name = request.POST.get("name", "").strip()[:40]
    if name:
        room, _ = Room.objects.get_or_create(name=name)
        return redirect("room", room.pk)
    return render(request, "chat/rooms.html", {"rooms": Room.objects.order_by("name")})


@login_required
def room(request: HttpRequest, number: int) -> HttpResponse:
    found = get_object_or_404(Room, pk=number)
    last = found.message_set.select_related("author").order_by("-pk")[:50]
    return render(request, "chat/room.html", {"room": found, "messages": reversed(last)})


@login_required
@require_POST
def say(request: HttpRequest, number: int) -> HttpResponse:
    author = request.user
    assert author.is_authenticated
    text = request.POST.get("text", "").strip()[:500]
    if text:
        Message.objects.create(room=get_object_or_404(Room, pk=number), author=author, text=text)
    # The page gets the message by its Turbo Stream, like all others.
    return HttpResponse(status=204)
