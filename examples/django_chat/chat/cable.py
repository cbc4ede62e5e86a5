"""Connections of users, and presence in rooms. Messages are Turbo Streams of the model."""

from catenary import Cable, Channel
from catenary.channels.django.cable import in_django
from catenary.channels.django.connection import DjangoConnection
from chat.models import Room


class Guest(DjangoConnection):
    identified_by = ("user_id", "name")
    user_id: int
    name: str

    def connect(self) -> None:
        user = self.request.get_user()
        if not user.is_authenticated:
            self.reject_unauthorized_connection()
        self.user_id = user.pk
        self.name = user.get_username()


class RoomChannel(Channel[Guest]):
    id: int

    def subscribed(self) -> None:
        if not Room.objects.filter(pk=self.id).exists():
            self.reject()
        self.stream_for(self.id, presence=True)
        self.join_presence(id=self.connection.user_id, info={"name": self.connection.name})


cable = Cable(connection=Guest, channels=[RoomChannel], **in_django())
