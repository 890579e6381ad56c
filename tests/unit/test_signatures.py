"""Standard Webhooks, checked against its own example and by another program."""

from __future__ import annotations

import base64
import subprocess

import pytest

from app import signatures


def test_the_example_of_the_specification() -> None:
    """github.com/standard-webhooks: the message that its libraries are tested with."""
    made = signatures.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_openssl_computes_the_same() -> None:
    secret, body = signatures.new_secret(), '{"name":"Müller"}'.encode()
    made = signatures.headers("msg_1_2", 1700000000, body, [secret])
    key = base64.b64decode(secret.removeprefix("whsec_")).hex()
    argv = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    done = subprocess.run(argv, input=b"msg_1_2.1700000000." + body, capture_output=True, check=True)
    assert made["webhook-signature"] == "v1," + base64.b64encode(done.stdout).decode()


def test_while_a_secret_changes_both_sign() -> None:
    old, new = signatures.new_secret(), signatures.new_secret()
    both = signatures.headers("m", 1, b"{}", [new, old])["webhook-signature"].split(" ")
    assert both == [signatures.headers("m", 1, b"{}", [each])["webhook-signature"] for each in (new, old)]
    assert len(set(both)) == 2


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_!!!!", "whsec_" + "A" * 100, "whsec_é"],
)
def test_what_is_no_secret_is_refused_with_the_rule(secret: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_ and 24 to 64 bytes in base64"):
        signatures.read_secret(secret)


def test_secrets_differ() -> None:
    made = {signatures.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(signatures.read_secret(secret)) == 32 for secret in made)
