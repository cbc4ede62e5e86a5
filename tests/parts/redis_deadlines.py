"""The deadlines of sessions or presence members in Redis, moved instead of waited for."""

import redis


class Deadlines:
    """A sorted set of deadlines in ms of Redis' clock, by session. ``connection`` decodes responses."""

    def __init__(self, connection: redis.Redis, key: str) -> None:
        self._connection = connection
        self._key = key

    def now_ms(self) -> int:
        """The time of Redis' clock."""
        seconds, microseconds = self._connection.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def by_sid(self) -> dict[str, float]:
        """All deadlines."""
        sids = [str(sid) for sid in self._connection.zrange(self._key, 0, -1)]
        scores = self._connection.zmscore(self._key, sids)
        return {sid: float(score or 0) for sid, score in zip(sids, scores, strict=True)}

    def shift(self, by_ms: int) -> None:
        """Moves all deadlines, as if time had passed."""
        moved = {sid: deadline + by_ms for sid, deadline in self.by_sid().items()}
        self._connection.zadd(self._key, moved)
