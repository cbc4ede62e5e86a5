"""The cable of the contract suite, under the name that servers load."""

from tests.channels.chat import chat

cable = chat()
