from django.conf import settings
from django.db import models

from catenary.channels.django.turbo import broadcasts_to


class Room(models.Model):
    name = models.CharField(max_length=40, unique=True)

    def __str__(self) -> str:
        return self.name


@broadcasts_to(lambda message: (message.room, "messages"))
class Message(models.Model):
    room = models.ForeignKey(Room, models.CASCADE)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=500)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.text
