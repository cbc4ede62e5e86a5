from django.urls import path

from chat import views

urlpatterns = [
    path("", views.rooms, name="rooms"),
    path("enter", views.enter, name="enter"),
    path("rooms/<int:number>", views.room, name="room"),
    path("rooms/<int:number>/messages", views.say, name="say"),
]
