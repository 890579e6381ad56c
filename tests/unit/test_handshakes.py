"""PyMySQL takes its RSA along when a server asks for it, and not before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LATER = """
import sys
from app import handshakes

handshakes.load_when_needed()
import pymysql
from pymysql import _auth

assert not any(name.startswith("cryptography.hazmat") for name in sys.modules)

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

key = rsa.generate_private_key(65537, 2048)
public = key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
sent = _auth.sha2_rsa_encrypt(b"secret", b"salt" * 5, public)
oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
plain = bytes(a ^ b for a, b in zip(key.decrypt(sent, oaep), b"salt" * 5))
assert plain == b"secret" + bytes(1), plain
"""
LEAN = """
import sys
import celery_worker

heavy = {"numpy", "onnxruntime", "zxingcpp", "pyzbar", "PIL.ImageFont", "rich", "alembic", "xlsxwriter", "boto3"}
loaded = [name for name, module in sys.modules.items() if module]
print(sorted(heavy.intersection(loaded)), [name for name in loaded if name.startswith("cryptography.hazmat")])
"""


def _run(code: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_password_is_sent_as_ever() -> None:
    _run(LATER)


def test_it_does_nothing_where_the_driver_is_there_already() -> None:
    _run(
        "import pymysql; from app import handshakes; handshakes.load_when_needed(); "
        "from pymysql import _auth; assert _auth._have_cryptography; import types; "
        "assert isinstance(_auth.hashes, types.ModuleType)"
    )


@pytest.mark.parametrize("url", ["mysql+pymysql://nobody:secret@127.0.0.1:1/none", ""])
def test_a_worker_begins_without_what_few_need(url: str, tmp_path: Path) -> None:
    assert _run(LEAN, DATABASE_URL=url, DATA_DIR=str(tmp_path)) == "[] []"
