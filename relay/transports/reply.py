"""What came back from a receiver that answered."""

from __future__ import annotations

from dataclasses import dataclass

from relay.policy.attempt import Answer, Timing


@dataclass(slots=True)
class Reply:
    """A final answer: its head, and the decoded beginning of its body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    excerpt: bytes

    def answer(self, timing: Timing, peer: str | None, reused: bool) -> Answer:
        """The answer that this reply is."""
        return Answer(timing, self.status, headers=self.headers, excerpt=self.excerpt, peer=peer, reused=reused)
