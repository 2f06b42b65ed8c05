"""Keys: hashed, compared whole, limited; budgets against a slow account of the same requests."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.serve.safety.keys import KeyFileError, KeyStore, new_key
from foveate.serve.safety.limits import SafetySettingsError
from foveate.serve.safety.quotas import Bucket, Caller, KeyLimits, QuotaRefused


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def caller(clock: Clock | None = None, **limits) -> Caller:
    none = dict.fromkeys(
        ("requests_per_minute", "concurrency", "output_tokens_per_minute", "output_tokens_per_day")
    )
    return Caller("web", KeyLimits(**{**none, **limits}), clock=clock or Clock())


def refusal(who: Caller, tokens: int = 0) -> QuotaRefused:
    with pytest.raises(QuotaRefused) as caught:
        who.admit(tokens)
    return caught.value


# -- keys ----------------------------------------------------------------------------------------------------


def test_a_key_lets_its_caller_in_and_nobody_else(tmp_path):
    first, second, stranger = new_key("web"), new_key('batch "β"\n\x7f'), new_key("web")
    path = tmp_path / "keys.toml"
    path.write_text(first.entry + "concurrency = 2\n\n" + second.entry, encoding="utf-8")
    store = KeyStore.load(path)
    assert store.authenticate(f"Bearer {first.key}").name == "web"
    assert store.authenticate(f"bearer  {first.key}") is store.authenticate(f"Bearer {first.key}")
    assert store.authenticate(f"Bearer {second.key}").name == 'batch "β"\n\x7f'
    assert store.authenticate(f"Bearer {first.key}").limits == KeyLimits(concurrency=2)
    last = "A" if first.key[-1] != "A" else "B"
    others = (stranger.key, first.key[:-1] + last, first.key[:-1], first.key + "A", first.key.upper(),
              first.key[:13] + second.key[13:], "", "fv__", "*", "sk-1234")  # fmt: skip
    for other in others:
        assert store.authenticate(f"Bearer {other}") is None
    for header in (
        None,
        "",
        "Bearer",
        first.key,
        f"Basic {first.key}",
        f"Bearer{first.key}",
        f"Bearer\t{first.key}",
    ):
        assert store.authenticate(header) is None
    assert [caller.name for caller in store] == ["web", 'batch "β"\n\x7f'] and len(store) == 2


def test_the_file_and_every_text_of_ours_hide_the_key(tmp_path):
    made = new_key("web")
    path = tmp_path / "keys.toml"
    path.write_text(made.entry)
    secret = made.key.rpartition("_")[2][-20:]
    assert secret not in path.read_text() + repr(made) + repr(KeyStore.load(path))
    assert len({new_key("web").key for _ in range(50)}) == 50


def test_a_hash_in_the_file_is_not_a_key(tmp_path):
    made = new_key("web")
    path = tmp_path / "keys.toml"
    path.write_text(made.entry)
    digest = made.entry.split('hash = "')[1].split('"')[0]
    store = KeyStore.load(path)
    for guess in (digest, digest.removeprefix("sha256:"), f"fv_{made.key[3:13]}_{digest[7:50]}"):
        assert store.authenticate(f"Bearer {guess}") is None


def test_json_and_defaults_are_read_and_zero_lifts_a_limit(tmp_path):
    made = new_key("web")
    fields = dict(line.split(" = ") for line in made.entry.splitlines()[1:])
    entry = {name: json.loads(value) for name, value in fields.items()} | {"output_tokens_per_day": 0}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [entry], "defaults": {"concurrency": 3, "output_tokens_per_day": 9}}))
    limits = KeyStore.load(path).authenticate(f"Bearer {made.key}").limits
    assert limits == KeyLimits(concurrency=3, output_tokens_per_day=None)


ENTRY = new_key("web").entry


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list `keys`"),
        ("keys = []", "no list `keys`"),
        ("keys = [1]", "not a table"),
        ("defaults = 1", "not a table"),
        ("[[keys]]\nname = 'secret-key-text", "form is broken"),
        (ENTRY + ENTRY, "twice"),
        (
            ENTRY
            + ENTRY.replace('id = "', 'id = "a').replace(ENTRY.split('"')[3][-1] + '"\nhash', '"\nhash'),
            "twice",
        ),
        (ENTRY.replace("sha256:", ""), "`hash`"),
        (ENTRY.replace('name = "web"', ""), "`name`"),
        (ENTRY + "concurency = 3", "Did you mean 'concurrency'"),
        (ENTRY + "concurrency = -1", "0 .no limit. or more"),
        (ENTRY + "concurrency = 1.5", "whole number"),
        (ENTRY + "concurrency = true", "whole number"),
        ("[default]\nconcurrency = 1\n" + ENTRY, "Did you mean 'defaults'"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, text, message):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(KeyFileError, match=message) as caught:
        KeyStore.load(path)
    assert "secret" not in str(caught.value)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(KeyFileError, match="No such file"):
        KeyStore.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(KeyFileError, match="UTF-8"):
        KeyStore.load(tmp_path / "bytes.toml")


# -- budgets -------------------------------------------------------------------------------------------------


def test_requests_a_minute():
    clock = Clock()
    who = caller(clock, requests_per_minute=3)
    for _ in range(3):
        who.admit(5).settle(5)
    refused = refusal(who)
    assert refused.reason == "requests_per_minute" and refused.retry_after == pytest.approx(20.0)
    clock.now += 19.9
    refusal(who)
    clock.now += 0.2
    who.admit(0)
    assert who.refused == {"requests_per_minute": 2} and who.requests == 4


def test_requests_at_once():
    who = caller(concurrency=2)
    first, _ = who.admit(0), who.admit(0)
    assert refusal(who).reason == "concurrency" and refusal(who).retry_after == 1.0
    first.settle()
    first.settle()  # again gives nothing
    who.admit(0)
    assert refusal(who).reason == "concurrency" and who.running == 2


def test_tokens_are_reserved_and_given_back():
    who = caller(output_tokens_per_minute=100)
    running = who.admit(80)
    refused = refusal(who, 30)
    assert refused.reason == "output_tokens_per_minute" and refused.retry_after == pytest.approx(6.0)
    running.settle(10)
    who.admit(90)
    assert who.output_tokens == 10 and refusal(who, 1).reason == "output_tokens_per_minute"


def test_an_aborted_request_pays_for_what_was_counted():
    who = caller(output_tokens_per_minute=100)
    with pytest.raises(ZeroDivisionError), who.admit(100) as admission:
        admission.count(40)
        raise ZeroDivisionError
    assert who.running == 0 and who.output_tokens == 40
    refusal(who, 61)
    who.admit(60)


def test_writing_more_than_reserved_is_paid_for():
    who = caller(output_tokens_per_minute=100)
    who.admit(10).settle(100)
    assert refusal(who, 1).retry_after == pytest.approx(0.6)


def test_the_longer_wait_is_told_and_nothing_is_taken_on_refusal():
    clock = Clock()
    who = caller(clock, requests_per_minute=60, output_tokens_per_minute=100, output_tokens_per_day=120)
    who.admit(100).settle(100)
    refused = refusal(who, 50)
    assert refused.reason == "output_tokens_per_day"
    assert refused.retry_after == pytest.approx(30 / (120 / 86_400))
    clock.now += 60
    for _ in range(59):  # the refused one did not count as a request
        who.admit(0)


def test_a_request_that_never_fits_says_so():
    who = caller(output_tokens_per_minute=100)
    refused = refusal(who, 101)
    assert refused.retry_after is None and "at most 100 tokens" in str(refused)


# Without subnormal numbers: compiled code of the engine may have made this process round them to zero.
WAITS, SHARES = st.floats(0, 100, allow_subnormal=False), st.floats(0, 1, allow_subnormal=False)


@given(
    steps=st.lists(
        st.tuples(WAITS, st.integers(0, 30), SHARES),
        max_size=40,
    )
)
def test_a_bucket_never_gives_more_than_it_promises(steps):
    clock = Clock()
    who = caller(clock, output_tokens_per_minute=50)
    start, written, let_in = clock.now, 0, True
    for wait, tokens, share in steps:
        clock.now += wait
        try:
            admission = who.admit(tokens)
        except QuotaRefused as refused:
            let_in = False
            clock.now += refused.retry_after + 1e-6  # what it says is true: now it is let in
            admission = who.admit(tokens)
        spent = math.floor(tokens * share)
        admission.settle(spent)
        written += spent
        assert written <= 50 * (1 + (clock.now - start) / 60) + 1e-3
    assert who.output_tokens == written and who.running == 0 and (let_in or who.refused)


def test_a_clock_that_goes_back_takes_nothing():
    clock = Clock()
    bucket = Bucket(10, 60.0, clock)
    bucket.take(5)
    clock.now -= 100
    assert bucket.level == 5


def test_limits_are_numbers():
    with pytest.raises(SafetySettingsError, match="at least 1"):
        KeyLimits(concurrency=0)
