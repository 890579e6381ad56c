"""What is due is sent: signed, again where it did not arrive, and never in anybody's way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from app import signatures
from app.domain import deliveries, sender, transactions
from app.models import Delivery, DeliveryState, Webhook
from app.sql import db_now
from testbed.authorities import Authority
from testbed.receiver import Receiver
from testbed.scripted import Sentinel
from tests.integration import hands
from tests.integration.receivers import SECRET, is_signed, make_due, outbox, send_all, sending, subscribe

PUBLIC = "127.0.0.2"
ONE_BACK_END = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(PUBLIC) as running:
        yield running


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "LOOK_SECONDS", 0.05)


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """Waits are short, so that a test can see what comes after them."""
    return make_app(
        FETCH_ALLOWED_NETWORKS=f"{PUBLIC}/32",
        WEBHOOK_RETRY_BASE_SECONDS=0.05,
        WEBHOOK_RETRY_MAX_SECONDS=0.2,
        WEBHOOK_ATTEMPTS=4,
        WEBHOOK_TIMEOUT_SECONDS=1.0,
    )


def close_a_job(app: Flask, client: FlaskClient, **more: Any) -> int:
    """One that ends as it comes: its store is unknown."""
    return hands.submit(client, hands.visit("NOWHERE"), **more)


def failed_once(app: Flask, client: FlaskClient, receiver: Receiver, path: str) -> dict[str, Any]:
    """Send one message to a path, once; the delivery as it is then shown."""
    webhook = subscribe(client, receiver.url(path), events=["job.failed"])
    close_a_job(app, client)
    with sending(app) as wait:
        wait(lambda: outbox(app)[0].attempts)
    return client.get(f"/api/webhooks/{webhook}/deliveries").json["results"][0]


def test_a_message_arrives_signed_and_is_noted(app: Flask, client: FlaskClient, receiver: Receiver) -> None:
    webhook = subscribe(client, receiver.url("/hook"), events=["job.failed"])
    job = close_a_job(app, client, metadata={"name": "Müller"})
    before = time.time()
    [row] = send_all(app)
    [message] = receiver.messages
    assert is_signed(message) and not is_signed(message, signatures.new_secret())
    assert message.headers["content-type"] == "application/json"
    assert before - 5 <= int(message.headers["webhook-timestamp"]) <= time.time() + 5
    assert message.json["data"]["metadata"] == {"name": "Müller"}
    [shown] = client.get(f"/api/webhooks/{webhook}/deliveries").json["results"]
    assert (shown["state"], shown["attempts"], shown["message_id"]) == ("delivered", 1, message.id)
    assert (shown["job_id"], shown["next_attempt_at"]) == (job, None)
    [tried] = shown["tries"]
    assert (tried["status"], tried["error"], tried["message"]) == (200, None, "thanks")
    assert client.get(f"/api/deliveries/{row.id}").json["payload"] == message.json
    assert client.get(f"/api/webhooks/{webhook}").json["failing_since"] is None


def test_down_then_up_arrives_once_under_one_id(app: Flask, client: FlaskClient, receiver: Receiver) -> None:
    webhook = subscribe(client, receiver.url("/hook"), events=["job.failed"])
    receiver.script = ["/status?code=500", "/reset", "/status?code=302"]
    close_a_job(app, client)
    [row] = send_all(app)
    assert (row.state, row.attempts) == (DeliveryState.DELIVERED, 4)
    assert len(receiver.ids) == 4 and len(set(receiver.ids)) == 1
    assert all(is_signed(message) for message in receiver.messages)
    assert [tried["error"] for tried in row.tries or ()] == ["http_500", "connect_error", "http_302", None]
    assert client.get(f"/api/webhooks/{webhook}").json["failing_since"] is None


def test_what_never_arrives_is_given_up_and_can_be_sent_again_by_hand(
    app: Flask, client: FlaskClient, receiver: Receiver
) -> None:
    webhook = subscribe(client, receiver.url("/hook"), events=["job.failed"])
    receiver.script = ["/status?code=500"] * 5
    job = close_a_job(app, client)
    [row] = send_all(app)
    assert (row.state, row.attempts) == (DeliveryState.FAILED, 4)
    shown = client.get(f"/api/webhooks/{webhook}").json
    assert shown["failing_since"] and shown["last_error"] == "http_500"
    again = client.post(f"/api/deliveries/{row.id}/redeliver", headers={"Idempotency-Key": "again"})
    assert (again.status_code, again.json["state"], again.json["attempts"]) == (202, "pending", 4)
    [row] = send_all(app)
    assert (row.state, row.attempts) == (DeliveryState.DELIVERED, 6)
    assert len(set(receiver.ids)) == 1
    # The request, repeated, does not send it once more.
    assert client.post(f"/api/deliveries/{row.id}/redeliver", headers={"Idempotency-Key": "again"}).status_code == 202
    assert outbox(app)[0].due_at is None
    # The job never knew.
    assert client.get(f"/api/jobs/{job}").json["status"] == "failed"
    hands.expect_books_balanced(app)


@ONE_BACK_END
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/status?code=500", "http_500"),
        ("/status?code=404", "http_404"),
        ("/hang", "timeout"),
        ("/silent", "connect_error"),
        ("/garbage", "bad_response"),
    ],
)
def test_a_try_that_failed_says_why(app: Flask, client: FlaskClient, receiver: Receiver, path: str, error: str) -> None:
    shown = failed_once(app, client, receiver, path)
    assert shown["tries"][0]["error"] == error
    assert shown["tries"][0]["message"]


@ONE_BACK_END
@pytest.mark.parametrize("path", ["/drip", "/endless", "/bomb", "/cut"])
def test_an_answer_of_200_counts_whatever_its_body(
    app: Flask, client: FlaskClient, receiver: Receiver, path: str
) -> None:
    shown = failed_once(app, client, receiver, path)
    assert (shown["state"], shown["attempts"]) == ("delivered", 1)


@ONE_BACK_END
def test_a_redirect_inward_is_not_followed(app: Flask, client: FlaskClient, receiver: Receiver) -> None:
    with Sentinel() as inside:
        shown = failed_once(app, client, receiver, f"/redirect?code=307&to=http://127.0.0.1:{inside.port}/")
        assert shown["tries"][0]["error"] == "http_307"
        assert inside.connections == 0


@ONE_BACK_END
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_an_address_inside_is_never_connected_to(app: Flask, client: FlaskClient, host: str) -> None:
    """Even where the check at its making was got around: the name led elsewhere then, or networks were allowed."""
    with Sentinel("::1" if host == "[::1]" else "127.0.0.1") as inside:
        webhook = subscribe(client, events=["job.failed"])
        with app.app_context():
            there = update(Webhook).values(url=f"http://{host}:{inside.port}/")
            transactions.run(lambda session: session.execute(there))
        close_a_job(app, client)
        with sending(app) as wait:
            wait(lambda: outbox(app)[0].attempts)
        [shown] = client.get(f"/api/webhooks/{webhook}/deliveries").json["results"]
        assert {tried["error"] for tried in shown["tries"]} == {"blocked_address"}
        assert inside.connections == 0


def test_410_ends_the_subscription(app: Flask, client: FlaskClient, receiver: Receiver) -> None:
    webhook = subscribe(client, receiver.url("/status?code=410"), events=["job.failed"])
    close_a_job(app, client)
    [row] = send_all(app)
    assert (row.state, row.attempts) == (DeliveryState.FAILED, 1)
    shown = client.get(f"/api/webhooks/{webhook}").json
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "the receiver answered 410 Gone")
    close_a_job(app, client)
    assert len(outbox(app)) == 1
    refused = client.post(f"/api/deliveries/{row.id}/redeliver")
    assert (refused.status_code, refused.json) == (409, {"error": "the webhook is disabled: enable it first"})
    assert client.patch(f"/api/webhooks/{webhook}", json={"enabled": True}).json["disabled_reason"] is None
    assert client.post(f"/api/deliveries/{row.id}/redeliver").status_code == 202


@pytest.mark.parametrize("end", ["disabled", "removed"])
def test_nothing_is_sent_any_more_once_it_is_disabled_or_removed(
    app: Flask, client: FlaskClient, receiver: Receiver, end: str
) -> None:
    webhook = subscribe(client, receiver.url("/hook"), events=["job.failed"])
    close_a_job(app, client)
    if end == "removed":
        client.delete(f"/api/webhooks/{webhook}")
    else:
        client.patch(f"/api/webhooks/{webhook}", json={"enabled": False})
    [row] = send_all(app)
    assert (row.state, row.attempts, receiver.messages) == (DeliveryState.FAILED, 0, [])
    assert (row.tries or [])[0]["message"] == f"the webhook {'is' if end == 'disabled' else 'was'} {end}"


def test_a_changed_address_counts_for_what_is_still_to_be_sent(
    app: Flask, client: FlaskClient, receiver: Receiver
) -> None:
    webhook = subscribe(client, "https://old.invalid/", events=["job.failed"])
    close_a_job(app, client)
    client.patch(f"/api/webhooks/{webhook}", json={"url": receiver.url("/hook")})
    assert send_all(app)[0].state is DeliveryState.DELIVERED


def test_for_a_day_both_secrets_sign(app: Flask, client: FlaskClient, receiver: Receiver) -> None:
    webhook = subscribe(client, receiver.url("/hook"), events=["job.failed"])
    new = client.post(f"/api/webhooks/{webhook}/rotate").json["secret"]
    close_a_job(app, client)
    send_all(app)
    assert is_signed(receiver.messages[0], SECRET) and is_signed(receiver.messages[0], new)
    with app.app_context():
        long_ago = update(Webhook).values(secret_changed_at=db_now(-deliveries.OLD_SECRET_SECONDS - 1))
        transactions.run(lambda session: session.execute(long_ago))
    close_a_job(app, client)
    send_all(app)
    assert not is_signed(receiver.messages[1], SECRET) and is_signed(receiver.messages[1], new)


def test_retry_after_is_honoured_within_the_longest_wait(
    app: Flask, client: FlaskClient, receiver: Receiver, make_app: Callable[..., Flask]
) -> None:
    patient = make_app(
        FETCH_ALLOWED_NETWORKS=f"{PUBLIC}/32", WEBHOOK_RETRY_BASE_SECONDS=0, WEBHOOK_RETRY_MAX_SECONDS=1000
    )
    subscribe(client, receiver.url("/hook"), events=["job.failed"])
    receiver.script = ["/status?code=503&retry=500"]
    close_a_job(app, client)
    with sending(patient) as wait:
        wait(lambda: outbox(app)[0].attempts)
    [row] = outbox(app)
    assert row.due_at and 490 < (row.due_at - row.created_at).total_seconds() < 600


def test_a_test_message_can_be_asked_for(app: Flask, client: FlaskClient, receiver: Receiver) -> None:
    webhook = subscribe(client, receiver.url("/hook"))
    asked = client.post(f"/api/webhooks/{webhook}/test", headers={"Idempotency-Key": "t"})
    assert client.post(f"/api/webhooks/{webhook}/test", headers={"Idempotency-Key": "t"}).json == asked.json
    assert asked.status_code == 202
    send_all(app)
    [message] = receiver.messages
    assert (message.json["type"], message.json["data"]["webhook_id"]) == ("webhook.test", webhook)
    assert client.get(asked.headers["Location"]).json["state"] == "delivered"


@ONE_BACK_END
def test_a_host_that_hangs_keeps_nobody_waiting(make_app: Callable[..., Flask], receiver: Receiver) -> None:
    """More messages to it are due, and for longer, than can be on their way at once."""
    app = make_app(FETCH_ALLOWED_NETWORKS="127.0.0.0/29", WEBHOOK_TIMEOUT_SECONDS=60, WEBHOOK_SENDS=4)
    client = app.test_client()
    with Receiver("127.0.0.3") as hanging:
        subscribe(client, hanging.url("/hang"), events=["visit.settled"])
        hands.submit(client, *(hands.visit("NOWHERE") for _ in range(300)))
        subscribe(client, receiver.url("/hook"), events=["visit.settled"])
        hands.submit(client, *(hands.visit("NOWHERE") for _ in range(50)))
        with sending(app) as wait:
            wait(lambda: len(receiver.messages) == 50)
            hanging.released.set()
            assert hanging.most_open == 1


@ONE_BACK_END
def test_a_quick_host_is_sent_several_at_once_within_its_bound(
    make_app: Callable[..., Flask], receiver: Receiver
) -> None:
    app = make_app(FETCH_ALLOWED_NETWORKS="127.0.0.0/29", WEBHOOK_SENDS_A_HOST=4)
    client = app.test_client()
    subscribe(client, receiver.url("/good?wait=0.05"), events=["visit.settled"])
    hands.submit(client, *(hands.visit("NOWHERE") for _ in range(100)))
    send_all(app)
    assert len(set(receiver.ids)) == 100
    assert 2 <= receiver.most_open <= 4


@pytest.mark.parametrize("after", [False, True])
def test_a_result_whose_commit_is_cut_is_neither_lost_nor_doubled(
    app: Flask, client: FlaskClient, receiver: Receiver, cut_commit: Any, after: bool
) -> None:
    subscribe(client, receiver.url("/hook"), events=["job.failed"])
    close_a_job(app, client)
    with app.app_context():
        [due] = claim_all()
        cuts = cut_commit(after=after)
        tried = [{"at": "2020-09-02T00:00:53Z", "seconds": 0.1, "status": 200, "error": None, "message": ""}]
        deliveries.settle([deliveries.Sent(due, DeliveryState.DELIVERED, tried)])
    assert cuts
    [row] = outbox(app)
    assert (row.state, row.attempts, row.tries, row.due_at, row.claim) == (
        DeliveryState.DELIVERED,
        1,
        tried,
        None,
        None,
    )


@pytest.mark.parametrize("after", [False, True])
def test_a_claim_whose_commit_is_cut_is_had_all_the_same(
    app: Flask, client: FlaskClient, cut_commit: Any, after: bool
) -> None:
    subscribe(client, events=["job.failed"])
    close_a_job(app, client)
    cuts = cut_commit(after=after)
    with app.app_context():
        # The first COMMIT is that of the read; SQLite's reads have none.
        claimed = claim_all()
    assert cuts and len(claimed) == 1


def claim_all(token: str = "t" * 32) -> list[deliveries.Due]:
    return deliveries.claim(token, most=100, full_hosts=[], room_of=lambda _host: 100, lease_seconds=60)


def test_what_one_holds_no_other_takes_and_a_late_result_counts_for_nothing(app: Flask, client: FlaskClient) -> None:
    subscribe(client, events=["job.failed"])
    close_a_job(app, client)
    with app.app_context():
        [first] = claim_all()
        assert claim_all("u" * 32) == []
        assert client.post(f"/api/deliveries/{first.delivery.id}/redeliver").status_code == 202
        assert claim_all("u" * 32) == [], "one that is being sent is left alone"
        make_due(app)
        [second] = claim_all("u" * 32)
        deliveries.settle([deliveries.Sent(first, DeliveryState.FAILED, [], "timeout")])
        assert outbox(app)[0].state is DeliveryState.PENDING
        deliveries.settle([deliveries.Sent(second, DeliveryState.DELIVERED, [])])
    assert outbox(app)[0].state is DeliveryState.DELIVERED


def test_old_deliveries_are_deleted_and_others_stay(app: Flask, client: FlaskClient, monkeypatch: Any) -> None:
    monkeypatch.setattr(deliveries, "DELETED_AT_ONCE", 2)
    subscribe(client, events=["job.failed"])
    for _ in range(7):
        close_a_job(app, client)
    ids = [row.id for row in outbox(app)]
    with app.app_context():
        old = update(Delivery).where(Delivery.id.in_(ids[:5])).values(created_at=db_now(-31 * 86_400.0))
        transactions.run(lambda session: session.execute(old))
        deliveries.forget()
    assert [row.id for row in outbox(app)] == ids[5:]


@ONE_BACK_END
def test_tls_is_verified_with_the_companys_own_authority(
    make_app: Callable[..., Flask], tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    app = make_app(FETCH_ALLOWED_NETWORKS=f"{PUBLIC}/32", FETCH_CA_BUNDLE=str(authority.bundle))
    client = app.test_client()
    with (
        Receiver(PUBLIC, tls=authority.context(PUBLIC)) as good,
        Receiver(PUBLIC, tls=authority.context("other.example")) as bad,
    ):
        subscribe(client, good.url("/hook"), events=["job.failed"])
        subscribe(client, bad.url("/hook"), events=["job.failed"])
        close_a_job(app, client)
        with sending(app) as wait:
            wait(lambda: all(row.attempts for row in outbox(app)))
        assert [(row.tries or [])[0]["error"] for row in outbox(app)] == [None, "tls_error"]
        assert bad.messages == []


def test_a_sender_outlives_a_database_that_is_away(
    app: Flask, client: FlaskClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has sent is written once the database is back, and not sent again."""
    subscribe(client, receiver.url("/hook"), events=["job.failed"])
    close_a_job(app, client)
    settle, failures = deliveries.settle, [1, 2]

    def away(results: Any) -> None:
        if failures:
            failures.pop()
            raise sender.UnavailableError("the database does not answer")
        settle(results)

    monkeypatch.setattr(deliveries, "settle", away)
    monkeypatch.setattr(sender, "DATABASE_AWAY_SECONDS", 0.01)
    [row] = send_all(app)
    assert (row.state, len(receiver.messages), failures) == (DeliveryState.DELIVERED, 1, [])
