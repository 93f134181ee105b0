"""Whose certificates are trusted: the system's authorities, and one of the operator's own."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


@lru_cache(maxsize=2)  # a system's authorities take a megabyte, and time to read: all who dial share them
def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """For connections that are dialled. Raises ValueError for a file that holds no certificates."""
    import ssl  # whoever reads settings and dials nobody need not wait for it

    context = ssl.create_default_context()
    # On from Python 3.13: it refuses an authority whose certificate does not say what its key is for, and most private
    # ones were made by a command that leaves this out (`openssl req -x509`).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except ssl.SSLError:
            raise ValueError(f"{ca_file}: there is no certificate in PEM in it") from None
        except OSError as error:
            raise ValueError(f"{ca_file}: {error.strerror}") from None
    return context


def readable_ca_file(ca_file: str) -> str:
    """The same file, for a setting: what is wrong with it is said at the start."""
    if ca_file:
        tls_context(ca_file)
    return ca_file
