"""trackcore to trackcore: two real servers, with requests that real SDKs have sent to the first."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from adapter_helpers import basic
from delivery_helpers import EndpointServer, Reply, fed, sender_context
from delivery_processes import HEADERS, Deployed, post, track
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import wait_for
from trackcore_delivery import DeliveryBatch, PermanentError, RetryLater, Secret, SegmentDestination
from trackcore_delivery.kinds.segment import forwarded

from trackcore import JSONObject, parse_timestamp

VECTORS = Path(__file__).parents[1] / "vectors"
MIRROR_KEY = "mirror-key"
AT_THE_SECOND = f"""
[[sources]]
name = "mirror"
write_keys = ["{MIRROR_KEY}"]
[[destinations]]
name = "Mixpanel"
[[destinations]]
name = "KISSmetrics"
"""


def mirror(port: int) -> str:
    return f"""
[[destinations]]
name = "Mirror"
kind = "segment"
url = "http://127.0.0.1:{port}"
write_key = "env:MIRROR_KEY"
batch_wait = "0s"
"""


def recorded_requests() -> list[tuple[str, bytes, dict[str, str]]]:
    """Return path, body and headers of requests that SDKs have sent, and of the examples of the API page."""
    requests = []
    for file in sorted((VECTORS / "sdk-captures").glob("*.json")):
        capture = json.loads(file.read_text("utf-8"))
        headers = {name.lower(): value for name, value in capture["headers"]}
        body = capture["body"].encode()
        if headers.get("content-encoding") == "gzip":
            body = gzip.compress(body)
        kept = {
            name: headers[name] for name in ("authorization", "content-type", "content-encoding") if name in headers
        }
        requests.append((capture["request_line"].split()[1], body, kept))
    examples = json.loads((VECTORS / "api-page-examples.json").read_text("utf-8"))
    page = [(f"/v1/{example['call']}", json.dumps(example["body"]).encode(), HEADERS) for example in examples]
    return requests + page


def times(message: JSONObject) -> tuple[Any, Any]:
    """Return the expected `timestamp` and `originalTimestamp` at the second server."""
    corrected, original = message["timestamp"], message.get("originalTimestamp")
    time = parse_timestamp(original)
    is_same = time is not None and time.replace(microsecond=time.microsecond // 1000 * 1000) == parse_timestamp(
        corrected
    )
    return corrected, original if is_same else corrected


def rest(message: JSONObject) -> JSONObject:
    made_anew = {"receivedAt", "sentAt", "timestamp", "originalTimestamp"}
    return {name: value for name, value in message.items() if name not in made_anew}


def test_the_second_log_equals_the_first(deploy: Callable[..., Deployed]) -> None:
    """Except for receivedAt and the effects of forwarding: no sentAt, and the corrected time as the client's."""
    second = deploy(AT_THE_SECOND, name="second")
    _, second_port = second.serve()
    source = '[[sources]]\nname = "sdks"\nwrite_keys = ["WRITEKEY123"]'
    first = deploy(mirror(second_port), source=source, name="first", MIRROR_KEY=MIRROR_KEY)
    _, first_port = first.serve()
    for path, body, headers in recorded_requests():
        post(first_port, path, body, headers)
    assert len(first.messages) >= 50
    selected = [
        message
        for message in first.messages
        if message.get("integrations", {}).get("Mirror", message.get("integrations", {}).get("All", True))
    ]
    first.wait_until_delivered("Mirror")
    assert first.status("Mirror").dead_letters == 0
    assert list(map(rest, second.messages)) == list(map(rest, selected))
    assert [(item["timestamp"], item["originalTimestamp"]) for item in second.messages] == list(map(times, selected))
    assert not any("sentAt" in message for message in second.messages)
    unchanged = [message for message in selected if times(message)[1] == message.get("originalTimestamp")]
    assert unchanged, "the client's own words arrive where its clock was right"


def test_integrations_decide_again_at_the_second(deploy: Callable[..., Deployed]) -> None:
    second = deploy(AT_THE_SECOND, name="second")
    _, second_port = second.serve()
    first = deploy(mirror(second_port), name="first", MIRROR_KEY=MIRROR_KEY)
    _, port = first.serve()
    batch = [
        track(1),
        track(2, integrations={"All": False}),
        track(3, integrations={"All": False, "Mirror": True, "Mixpanel": True}),
        track(4, integrations={"Mixpanel": False}),
        track(5, integrations={"Mirror": False}),
    ]
    post(port, "/v1/batch", json.dumps({"batch": batch}).encode(), HEADERS)
    first.wait_until_delivered("Mirror")
    records, _ = second.ask("events")
    assert [(record["message"]["messageId"], record["destinations"]) for record in records] == [
        ("m1", ["Mixpanel", "KISSmetrics"]),
        ("m3", ["Mixpanel"]),
        ("m4", ["KISSmetrics"]),
    ]


def test_a_wrong_write_key_is_seen_and_not_taken_for_success(deploy: Callable[..., Deployed]) -> None:
    """A server answers an unknown write key with 200 and quarantines the request, where nobody would look."""
    second = deploy(AT_THE_SECOND, name="second")
    _, second_port = second.serve()
    first = deploy(mirror(second_port), name="first", MIRROR_KEY="wrong-key")
    _, port = first.serve()
    post(port, "/v1/batch", json.dumps({"batch": [track(1)]}).encode(), HEADERS)
    wait_for(lambda: first.status("Mirror").dead_letters)
    (letter,), _ = first.ask("dead-letters")
    assert "answered 401" in letter["reason"]
    assert "wrong-key" not in json.dumps(letter)


def test_what_the_second_refuses_dies_and_its_neighbours_arrive(deploy: Callable[..., Deployed]) -> None:
    second = deploy(f"{AT_THE_SECOND}\n[limits]\nmessage_bytes = 1000", name="second")
    _, second_port = second.serve()
    first = deploy(mirror(second_port), name="first", MIRROR_KEY=MIRROR_KEY)
    _, port = first.serve()
    batch = [track(1), track(2, properties={"pad": "x" * 2_000}), track(3)]
    post(port, "/v1/batch", json.dumps({"batch": batch}).encode(), HEADERS)
    first.wait_until_delivered("Mirror")
    assert [message["messageId"] for message in second.messages] == ["m1", "m3"]
    (letter,), _ = first.ask("dead-letters")
    assert letter["message"]["messageId"] == "m2"
    assert letter["reason"].startswith("refused: message_too_large")


ANY_RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "success": st.booleans() | st.none(),
        "accepted": st.integers(-1, 3) | st.none() | st.booleans() | st.text(max_size=2),
        "rejected": st.none()
        | st.integers()
        | st.lists(
            st.none()
            | st.fixed_dictionaries(
                {"index": st.integers(-1, 3) | st.booleans(), "code": st.integers() | st.just("c")}
            ),
            max_size=3,
        ),
    },
)
LIKELY_RESULTS = st.builds(
    lambda indexes, accepted: {"accepted": accepted, "rejected": [{"index": index, "code": "c"} for index in indexes]},
    st.sampled_from([[0], [1], [0, 1], [2], [1, 1]]),
    st.integers(0, 2),
)


class TestRequests:
    endpoints: ClassVar[list[EndpointServer]] = []

    def test_a_request_keeps_the_limits(self, endpoint: Callable[..., EndpointServer], tmp_path: Path) -> None:
        """500 KB for each request, 32 KB for each message: a message beyond that is rejected without an attempt."""
        server = endpoint()
        destination = SegmentDestination(name="There", url=server.url, write_key=Secret("k"))
        sender = destination.make_sender(sender_context(tmp_path))
        refusals = sender.send(
            DeliveryBatch(destination="There", messages=[*fed(2), *fed(1, first=2, pad=40_000), *fed(2)])
        )
        assert [refusal.index for refusal in refusals] == [2]
        (request,) = server.requests
        assert (request.path, len(request.messages)) == ("/v1/batch", 4)
        assert request.headers["authorization"] == basic("k")

    @pytest.mark.parametrize("setting", [{"batch_messages": 2_501}, {"batch_bytes": 500_001}])
    def test_settings_beyond_the_limits_are_refused(self, setting: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be <="):
            SegmentDestination(name="There", write_key=Secret("k"), **setting)

    def test_results_that_account_for_each_message_are_believed(
        self, endpoint: Callable[..., EndpointServer], tmp_path: Path
    ) -> None:
        results = [{"index": 1, "code": "no_type", "message": "m"}]
        body = json.dumps({"success": True, "accepted": 1, "rejected": results}).encode()
        for status in (200, 400):
            server = endpoint(lambda _, status=status: Reply(status=status, body=body))
            destination = SegmentDestination(name="There", url=server.url, write_key=Secret("k"))
            sender = destination.make_sender(sender_context(tmp_path))
            (refusal,) = sender.send(DeliveryBatch(destination="There", messages=fed(2)))
            assert (refusal.index, refusal.detail) == (1, "refused: no_type: m")

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        status=st.sampled_from([200, 202, 301, 400, 401, 413, 429, 500, 503]),
        body=ANY_RESULTS | LIKELY_RESULTS,
    )
    def test_nothing_counts_as_delivered_unless_the_answer_says_so(
        self, endpoint: Callable[..., EndpointServer], tmp_path: Path, status: int, body: JSONObject
    ) -> None:
        """A 2xx without results for single messages, or results with 200 or 400 that account for every message."""
        if not self.endpoints:
            self.endpoints.append(endpoint())
        (server,) = self.endpoints
        server.behaviour = lambda _: Reply(status=status, body=json.dumps(body).encode())
        destination = SegmentDestination(name="There", url=server.url, write_key=Secret("k"))
        sender = destination.make_sender(sender_context(tmp_path))
        rejected = body.get("rejected")
        try:
            refusals = sender.send(DeliveryBatch(destination="There", messages=fed(2)))
        except (RetryLater, PermanentError):
            assert status != 200 or body.keys() & {"accepted", "rejected"} or body.get("success") is False
        else:
            assert status // 100 == 2 or status == 400
            if refusals:
                assert rejected
                assert [refusal.index for refusal in refusals] == [result["index"] for result in rejected]
                assert body["accepted"] == 2 - len(refusals)
            else:
                assert status // 100 == 2
                assert not rejected
                assert body.get("success") is not False
        finally:
            sender.close()

    @pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/batch", "/v1/batch/", "/v1/b", "//v1//batch//"])
    @pytest.mark.parametrize("path", ["", "/tenant/7"])
    def test_the_route_is_never_doubled(
        self, endpoint: Callable[..., EndpointServer], tmp_path: Path, path: str, ending: str
    ) -> None:
        server = endpoint()
        destination = SegmentDestination(name="There", url=f"{server.url}{path}{ending}", write_key=Secret("k"))
        destination.make_sender(sender_context(tmp_path)).send(DeliveryBatch(destination="There", messages=fed(1)))
        assert server.requests[0].path == f"{path}/v1/batch"

    @pytest.mark.parametrize(
        "url", ["https://a/v1?key=x", "https://a/v1/batch#x", "https://u:p@a/v1", "https://a/v1\n"]
    )
    def test_a_url_with_a_query_or_credentials_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="URL"):
            SegmentDestination(name="There", url=url, write_key=Secret("k"))

    def test_times_that_cannot_be_read_go_as_corrected(self) -> None:
        payload = b'{"timestamp":"2026-01-01T00:00:00.000Z","originalTimestamp":"yesterday","sentAt":"x","a":1}'
        assert json.loads(forwarded(payload)) == {"timestamp": "2026-01-01T00:00:00.000Z", "a": 1}
