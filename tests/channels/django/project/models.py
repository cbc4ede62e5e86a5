from django.db import models

from catenary.channels.django.turbo import Broadcasts, broadcasts_to


class Room(models.Model):
    name: "models.CharField[str, str]" = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name


@broadcasts_to(lambda message: (message.room, "messages"))
class Message(Broadcasts, models.Model):
    room: "models.ForeignKey[Room, Room]" = models.ForeignKey(Room, models.CASCADE)
    text: "models.CharField[str, str]" = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.text
