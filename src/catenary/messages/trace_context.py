"""The context of a trace, as it travels with requests and publications: ``traceparent`` and ``tracestate``.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

import re
from typing import Final

import msgspec

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

SAMPLED: Final = 1
"""The flag of a trace that is recorded."""

STATE_LIMIT: Final = 512
"""Characters of a ``tracestate``; a longer one is dropped (section 3.3.1.5 requires 512 at least)."""

# Version ff is invalid; later versions may append fields, which are ignored (section 3.2.4).
_PARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
    r"(-.*)?\Z",
    re.DOTALL,
)
_STATE: Final = re.compile(r"[\t -~]*\Z")


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """One span of a trace, seen from another process: ids in lower-case hexadecimal; ``state`` is the ``tracestate``."""

    trace_id: str
    span_id: str
    is_sampled: bool
    state: str = ""

    @property
    def parent(self) -> str:
        """The ``traceparent``."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"

    @property
    def text(self) -> str:
        """Both in one text, as a publication carries them: see :func:`read_text`."""
        return f"{self.parent} {self.state}" if self.state else self.parent


def read(parent: str, state: str = "") -> TraceContext | None:
    """Reads a ``traceparent`` and its ``tracestate``. None for a ``traceparent`` that is not valid, which is ignored
    together with its ``tracestate``, as the specification requires."""
    found = _PARENT.match(parent)
    if found is None:
        return None
    version, trace_id, span_id, flags, later = found.groups()
    if later is not None and version == "00":
        return None
    is_sampled = bool(int(flags, 16) & SAMPLED)
    is_kept = len(state) <= STATE_LIMIT and _STATE.match(state) is not None
    return TraceContext(trace_id, span_id, is_sampled, state.strip() if is_kept else "")


def read_text(text: str) -> TraceContext | None:
    """Reads :attr:`TraceContext.text`; None if it is not valid."""
    parent, _, state = text.partition(" ")
    return read(parent, state)


def checked(parent: str, state: str = "") -> str:
    """A ``traceparent`` and its ``tracestate`` of another party as :attr:`TraceContext.text`; "" if they are not valid."""
    context = read(parent.strip(), state)
    return "" if context is None else context.text
