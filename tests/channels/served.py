"""The cable of the contract suite, by the name that a server is given."""

from tests.channels.chat import chat

cable = chat()
