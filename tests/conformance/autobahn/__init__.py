"""The cases of the Autobahn test suite's fuzzing client, by their numbers, reimplemented."""
