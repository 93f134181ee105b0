"""Why an exchange ended without a status: every failure of every transport, as a value with one sentence.

The sentences repeat nothing that a receiver sent, and no part of a URL but its host.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from relay.guard.resolver import LookupShortage, Unresolved
from relay.guard.rules import Refusal
from relay.policy.attempt import Answer, Failure, Timing


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure and its sentence."""

    failure: Failure
    detail: str

    def answer(self, timing: Timing, peer: str | None, reused: bool) -> Answer:
        """The answer that this failure is."""
        return Answer(timing, failure=self.failure, detail=self.detail, peer=peer, reused=reused)


DISCONNECTED = Fault(Failure.RESET, "The receiver closed the connection before it had answered.")
SWITCHED = Fault(Failure.PROTOCOL, "The receiver switched protocols (101), which nobody had asked for.")
CLOSED_BY_PROXY = Fault(Failure.CONNECT, "The proxy closed the connection before it led to the receiver.")
MISSPOKEN_BY_PROXY = Fault(Failure.CONNECT, "The proxy answered the request for a tunnel with no acceptable HTTP.")


_NO_TLS = ", because what answers is no TLS: perhaps the URL should say http://"
_TLS_HINTS = {
    **dict.fromkeys(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"), _NO_TLS),
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": ", it takes HTTP/2 alone, and callbacks are HTTP/1.1: let it take that too",
}


def blocked(refusal: Refusal) -> Fault:
    """The guard said no to the address."""
    return Fault(Failure.BLOCKED, refusal.message)


def unresolved(unresolved: Unresolved) -> Fault:
    """The name has no address."""
    return Fault(Failure.DNS, unresolved.detail)


def lookup_shortage(lookup_shortage: LookupShortage) -> Fault:
    """Whether the name has an address could not be asked."""
    return Fault(Failure.SHORTAGE, lookup_shortage.detail)


def connect_timed_out(seconds: float) -> Fault:
    """No connection, TLS included, within the time for it."""
    return Fault(Failure.CONNECT_TIMEOUT, f"No connection was established within {seconds:g} s.")


def exchange_timed_out(seconds: float) -> Fault:
    """The connection stood, and the whole answer did not come."""
    return Fault(Failure.READ_TIMEOUT, f"The receiver had not answered in full after {seconds:g} s.")


def not_connected(error: OSError) -> Fault:
    """The connection, or its TLS, failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fault(Failure.TLS, f"The receiver's certificate is not valid: {error.verify_message.rstrip('.')}.")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "the connection ended"
        return Fault(Failure.TLS, f"The TLS handshake failed: {reason}{_TLS_HINTS.get(reason, '')}.")
    if isinstance(error, ConnectionResetError | ConnectionAbortedError):
        # Without TLS nothing is said before the connection stands, so nothing can break it.
        return Fault(Failure.TLS, "The receiver ended the connection in the TLS handshake.")
    return Fault(Failure.CONNECT, f"The connection failed: {_sentence(error)}.")


def proxy_refused(status: int) -> Fault:
    """The forward proxy would not open a tunnel."""
    return Fault(Failure.CONNECT, f"The proxy refused to connect to the receiver ({status}).")


def proxy_not_trusted(error: ssl.SSLError) -> Fault:
    """The forward proxy is called by https://, and TLS with it failed."""
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
    return Fault(Failure.CONNECT, f"The TLS handshake with the proxy failed: {(reason or 'it ended').rstrip('.')}.")


def reset(error: BaseException | None) -> Fault:
    """The connection ended before a whole answer head came."""
    if isinstance(error, OSError) and error.errno is not None:
        return Fault(Failure.RESET, f"The connection broke before the receiver had answered: {_sentence(error)}.")
    return DISCONNECTED


def malformed(reason: str) -> Fault:
    """The answer is not HTTP, or breaks a bound."""
    return Fault(Failure.PROTOCOL, f"The answer is not acceptable HTTP: {reason}.")


def misspoke(reason: str) -> Fault:
    """The receiver does not keep to the rules of a WebSocket, or to ours."""
    return Fault(Failure.PROTOCOL, f"The receiver is no acceptable WebSocket: {reason}.")


def unanswered(seconds: float) -> Fault:
    """The WebSocket stands, and nobody is at its other end."""
    return Fault(Failure.READ_TIMEOUT, f"The receiver answered no ping within {seconds:g} s.")


def unsendable(reason: str) -> Fault:
    """No request can be made of what is to be sent, now or ever; the receiver has no part in it."""
    return Fault(Failure.UNSENDABLE, f"The request was not sent: {reason}.")


def ours(reason: str) -> Fault:
    """The request was not made; the receiver has no part in it."""
    return Fault(Failure.INTERNAL, f"The request was not sent: {reason}.")


def _sentence(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno is not None else type(error).__name__
