from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore import Source, SourceRegistry, WriteKey, mask_write_key, write_key_from_authorization
from trackcore.credentials import write_key, write_key_fault


class TestAuthorization:
    @pytest.mark.parametrize(
        ("header", "key"),
        [
            ("Basic YWJjMTIzOg==", "abc123"),  # the API page: `abc123:`
            ("Basic YWJjMTIz", "abc123"),  # the API page of 2022: `abc123`
            ("Basic YWJjMTIzOg", "abc123"),
            ("Basic YWJjMTIzOg===", "abc123"),
            ("basic YWJjMTIzOg==", "abc123"),
            ("BASIC YWJjMTIzOg==", "abc123"),
            ("  Basic   YWJjMTIzOg==  ", "abc123"),
            ("Basic YWJjMTIzOnNlY3JldA==", "abc123"),  # with a password
            ("Basic YWJjMTIzOmE6Yg==", "abc123"),  # a password with a colon
            ("Basic w6k6", "é"),
            ("Basic Pz8_Pz8-Og", "?????>"),  # the URL-safe alphabet
            ("Basic YWJjMTIzCg==", "abc123"),  # `echo abc123 | base64`
            ("Basic YWJjMTIzOgo=", "abc123"),  # `echo abc123: | base64`
            ("Basic IGFiYzEyMyA6", "abc123"),
        ],
    )
    def test_forms_that_are_sent_in_the_field(self, header: str, key: str) -> None:
        assert write_key_from_authorization(header) == key

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Basic",
            "Basic ",
            "Basic Og==",  # `:`
            "Basic =",
            "Basic !!!!",
            "Basic YWJj MTIz",
            "Basic YWJjM",  # five characters are not base64
            "Basic /w==",  # not UTF-8
            "Basic é",
            "Basic IAo6",  # white space and a colon
            "Basic oUAUW1JHKcFjqCQGeTuKcVKX2Bt5G7zS",  # a key that was not encoded
            "Bearer YWJjMTIzOg==",
            "YWJjMTIzOg==",
            "Basics YWJjMTIzOg==",
        ],
    )
    def test_anything_else_is_no_key(self, header: str | None) -> None:
        assert write_key_from_authorization(header) is None

    @given(st.text().filter(lambda key: key.strip() and ":" not in key), st.text(), st.booleans(), st.booleans())
    def test_every_user_name_is_read(self, key: str, password: str, url_safe: bool, padded: bool) -> None:
        encoded = (urlsafe_b64encode if url_safe else b64encode)(f"{key}:{password}".encode()).decode()
        assert write_key_from_authorization("Basic " + (encoded if padded else encoded.rstrip("="))) == key.strip()

    @given(st.text() | st.text().map("Basic ".__add__))
    def test_it_never_raises(self, header: str) -> None:
        write_key_from_authorization(header)


class TestSourceBook:
    WEBSITE = Source(name="website", write_keys=["abc", "def"])
    APP = Source(name="app", write_keys=["ghi"])
    IN_PROCESS = Source(name="worker")
    BOOK = SourceRegistry([WEBSITE, APP, IN_PROCESS])

    @pytest.mark.parametrize(
        ("key", "source"),
        [("abc", WEBSITE), ("def", WEBSITE), ("ghi", APP), ("ABC", None), ("ab", None), ("abcd", None), ("", None)],
    )
    def test_find(self, key: str, source: Source | None) -> None:
        assert self.BOOK.find(WriteKey(key)) is source

    def test_no_key_finds_nothing(self) -> None:
        assert self.BOOK.find(None) is None

    @given(st.text() | st.text(alphabet="\ud800\udc00"))
    def test_any_key_can_be_asked_for(self, key: str) -> None:
        assert self.BOOK.find(WriteKey(key)) in (None, self.WEBSITE, self.APP)

    @given(st.text(alphabet=st.characters() | st.sampled_from(" :*\n\ud800")))
    def test_a_key_can_be_declared_if_a_request_can_carry_it_and_is_never_quoted(self, key: str) -> None:
        fault = write_key_fault(key)
        if fault is None:
            source = Source(name="s", write_keys=[key])
            header = "Basic " + b64encode(f"{key}:".encode()).decode()
            assert SourceRegistry([source]).find(write_key_from_authorization(header)) is source
        else:
            with pytest.raises(ValueError, match=r"^write_keys\[1\]: ") as raised:
                Source(name="s", write_keys=["good", key])
            assert str(raised.value) == f"write_keys[1]: {fault}"

    @pytest.mark.parametrize(
        "key", ["", " ", "k ", "\tk", "k\n", "\ufeffk", "a:b", "id:***", "***", "a\x00b", "\ud800"]
    )
    def test_a_key_that_can_never_match_is_refused(self, key: str) -> None:
        assert write_key_fault(key) is not None

    def test_named(self) -> None:
        assert self.BOOK.by_name("worker") is self.IN_PROCESS
        assert self.BOOK.by_name("Worker") is None

    def test_one_key_in_place_of_a_list_is_a_mistake_and_the_key_is_not_shown(self) -> None:
        """Else each of its letters would be a write key, and anybody could guess one."""
        with pytest.raises(TypeError, match="a list of write keys") as caught:
            Source(name="web", write_keys="secret")
        assert "secret" not in str(caught.value)

    def test_two_sources_of_one_name_are_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="two sources are named 'a'"):
            SourceRegistry([Source(name="a"), Source(name="a")])

    def test_a_key_of_two_sources_is_a_mistake_and_the_key_is_not_shown(self) -> None:
        with pytest.raises(ValueError, match="a write key of 'b' already belongs to 'a'") as caught:
            SourceRegistry([Source(name="a", write_keys=["secret"]), Source(name="b", write_keys=["secret"])])
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        *[("k", "k"), ("", None), (None, None), (5, None), (["k"], None), ("id:***", None), ("***", None)],
        *[("k***", "k***"), ("k\n", "k"), (" k", "k"), ("\tk\r\n", "k"), (" \n", None), (" *** ", None)],
    ],
)
def test_write_key(value: object, key: str | None) -> None:
    assert write_key(value) == key


@pytest.mark.parametrize(
    ("key", "masked"), [("abcdefghijkl", "abcd…"), ("abcdefghijk", "…"), ("a", "…"), ("x" * 32, "xxxx…")]
)
def test_a_masked_key_shows_at_most_a_third(key: str, masked: str) -> None:
    assert mask_write_key(WriteKey(key)) == masked
