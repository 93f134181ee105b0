"""An application on Django, with psycopg 3 and its pool.

python -m tests.acceptance.applications.on_django DATABASE CALLBACK
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from urllib.parse import urlsplit

import django
from django.conf import settings

from relay import outbox
from relay.outbox import RelayError
from tests.acceptance.applications.steps import KNOWN, UNKNOWN, GivenUp, Steps, database_url, delivery, ready

place = urlsplit(database_url())
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": place.path[1:],
            "HOST": place.hostname,
            "PORT": place.port,
            "USER": place.username,
            "OPTIONS": {"pool": {"min_size": 1, "max_size": 2}},
        }
    },
)
django.setup()

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest  # noqa: E402 (Django's own want its settings)
from django.db import DatabaseError, IntegrityError, connection, models, transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402


class Customer(models.Model):  # type: ignore[misc]
    """Somebody who orders."""

    name = models.TextField(primary_key=True)

    class Meta:
        app_label = "django"


class Order(models.Model):  # type: ignore[misc]
    """What was ordered. That its customer is unknown turns out at the commit."""

    name = models.TextField(primary_key=True)
    customer = models.ForeignKey(Customer, models.PROTECT)

    class Meta:
        app_label = "django"


@contextmanager
def atomic() -> Iterator[None]:
    with transaction.atomic():
        yield


@contextmanager
def told() -> Iterator[None]:
    """A transaction that is told to commit, and to roll back."""
    transaction.set_autocommit(False)
    try:
        yield
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@contextmanager
def autocommit() -> Iterator[None]:
    """Each statement is committed by itself, as Django has it unless told otherwise."""
    yield


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "atomic": atomic,
    "told": told,
    "autocommit": autocommit,
}


def perform(steps: Steps) -> None:
    """One after another."""
    for step in steps:
        match step:
            case ["order", name]:
                Order.objects.create(name=name, customer_id=KNOWN)
            case ["orphan", name]:
                Order.objects.create(name=name, customer_id=UNKNOWN)
            case ["flush"]:
                pass  # nothing is kept for later
            case ["callback", name]:
                outbox.add(connection, delivery(name))
            case ["below", name]:
                outbox.add(connection.connection, delivery(name))
            case ["savepoint", inner]:
                with suppress(GivenUp), transaction.atomic():
                    perform(inner)
            case ["break"]:
                with suppress(DatabaseError), connection.cursor() as cursor:
                    cursor.execute("SELECT 1 / 0")
            case _:
                raise GivenUp


def orders(request: WSGIRequest) -> HttpResponse:
    """Take some, or tell which there are."""
    if request.method == "GET":
        return JsonResponse(list(Order.objects.values_list("name", flat=True)), safe=False)
    try:
        with WAYS[request.GET["way"]]():
            perform(json.loads(request.body))
    except (RelayError, IntegrityError, GivenUp) as error:
        return HttpResponse(f"{type(error).__name__}: {error}", status=409)
    return HttpResponse("committed")


urlpatterns = [path("orders", orders)]


def main() -> None:
    """Serve until SIGTERM."""
    with connection.schema_editor() as editor:
        editor.create_model(Customer)
        editor.create_model(Order)
    Customer.objects.create(name=KNOWN)
    connection.close()
    server = make_server("127.0.0.1", 0, WSGIHandler(), threaded=True)
    ready(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
